use std::collections::HashSet;
use std::rc::Rc;

use super::TopicKind;
use crate::model::SlotId;
use crate::proxy::resp::{bulk, elements, put_request};

/// What a client can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Topic {
    kind: TopicKind,
    name: Rc<[u8]>,
}

impl Topic {
    /// The topic of this name.
    pub(in crate::proxy) fn new(kind: TopicKind, name: &[u8]) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }

    /// Its kind.
    pub(in crate::proxy) fn kind(&self) -> TopicKind {
        self.kind
    }

    /// Its name.
    pub(in crate::proxy) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Where it lives: a channel at its slot, a pattern everywhere.
    pub(super) fn slot(&self) -> Option<SlotId> {
        (self.kind != TopicKind::Pattern).then(|| SlotId::of_key(&self.name))
    }

    /// The request that begins or ends its subscription at a server.
    pub(super) fn put_request(&self, out: &mut Vec<u8>, begins: bool) {
        let word = self.kind.word(begins);
        put_request(out, [word.as_bytes(), self.name()].into_iter());
    }
}

/// What one client is subscribed to.
#[derive(Debug, Default)]
pub(in crate::proxy) struct TopicSet {
    topics: HashSet<Topic>,
    shards: usize,
}

impl TopicSet {
    /// Adds one.
    pub(in crate::proxy) fn insert(&mut self, topic: &Topic) {
        if self.topics.insert(topic.clone()) && topic.kind == TopicKind::Shard {
            self.shards += 1;
        }
    }

    /// Takes one out. Whether it was there.
    pub(in crate::proxy) fn remove(&mut self, topic: &Topic) -> bool {
        let there = self.topics.remove(topic);
        if there && topic.kind == TopicKind::Shard {
            self.shards -= 1;
        }
        there
    }

    /// All of them.
    pub(in crate::proxy) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.topics.iter()
    }

    /// How many there are.
    pub(in crate::proxy) fn len(&self) -> usize {
        self.topics.len()
    }

    /// How many clients are told that there are; Redis counts channels and patterns together.
    pub(in crate::proxy) fn told(&self, kind: TopicKind) -> usize {
        match kind {
            TopicKind::Shard => self.shards,
            TopicKind::Channel | TopicKind::Pattern => self.topics.len() - self.shards,
        }
    }
}

/// What a server sends on a connection that subscribed, in RESP2.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// From now on it sends what is published there.
    Confirmed(Topic),
    /// Something was published.
    Message(Topic),
    /// Something that needs nothing to be done.
    Other,
    /// An error.
    Refused(String),
}

impl Heard {
    /// Reads a whole reply.
    pub(super) fn of(reply: &[u8]) -> Self {
        if let Some(text) = reply.strip_prefix(b"-") {
            return Self::Refused(String::from_utf8_lossy(text).trim_end().to_owned());
        }
        let mut words = elements(reply).into_iter().flatten().map(bulk);
        let (Some(Some(kind)), Some(Some(name))) = (words.next(), words.next()) else {
            return Self::Other;
        };
        let topic = |kind| Topic::new(kind, name);
        match kind {
            b"subscribe" => Self::Confirmed(topic(TopicKind::Channel)),
            b"psubscribe" => Self::Confirmed(topic(TopicKind::Pattern)),
            b"ssubscribe" => Self::Confirmed(topic(TopicKind::Shard)),
            b"message" => Self::Message(topic(TopicKind::Channel)),
            b"pmessage" => Self::Message(topic(TopicKind::Pattern)),
            b"smessage" => Self::Message(topic(TopicKind::Shard)),
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_apart() {
        let mut set = TopicSet::default();
        for kind in [
            TopicKind::Channel,
            TopicKind::Pattern,
            TopicKind::Shard,
            TopicKind::Shard,
        ] {
            set.insert(&Topic::new(kind, b"a"));
        }
        let told =
            |set: &TopicSet| [TopicKind::Channel, TopicKind::Pattern, TopicKind::Shard].map(|kind| set.told(kind));
        assert_eq!((set.len(), told(&set)), (3, [2, 2, 1]));
        let shard = Topic::new(TopicKind::Shard, b"a");
        assert!(set.remove(&shard) && !set.remove(&shard));
        assert_eq!((set.len(), told(&set)), (2, [2, 2, 0]));
    }

    #[test]
    fn what_a_subscribed_connection_hears_is_understood() {
        let topic = |kind, name: &str| Topic::new(kind, name.as_bytes());
        for (reply, heard) in [
            (
                "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
                Heard::Confirmed(topic(TopicKind::Channel, "a")),
            ),
            (
                "*3\r\n$7\r\nmessage\r\n$3\r\na\r\n\r\n$1\r\nx\r\n",
                Heard::Message(topic(TopicKind::Channel, "a\r\n")),
            ),
            (
                "*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$1\r\nx\r\n",
                Heard::Message(topic(TopicKind::Pattern, "a*")),
            ),
            (
                "*3\r\n$8\r\nsmessage\r\n$0\r\n\r\n$1\r\nx\r\n",
                Heard::Message(topic(TopicKind::Shard, "")),
            ),
            ("*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n", Heard::Other),
            ("*2\r\n$4\r\npong\r\n$0\r\n\r\n", Heard::Other),
            ("*0\r\n", Heard::Other),
            ("+OK\r\n", Heard::Other),
            ("-NOPERM no\r\n", Heard::Refused("NOPERM no".to_owned())),
        ] {
            assert_eq!(Heard::of(reply.as_bytes()), heard, "{reply}");
        }
    }
}
