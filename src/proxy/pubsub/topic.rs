use std::rc::Rc;

use crate::model::SlotId;
use crate::proxy::resp::{bulk, elements, put_request};

/// What a client can subscribe to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Topic {
    kind: TopicKind,
    name: Rc<[u8]>,
}

/// Its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::proxy) enum TopicKind {
    /// `SUBSCRIBE`.
    Channel,
    /// `PSUBSCRIBE`.
    Pattern,
    /// `SSUBSCRIBE`.
    Shard,
}

impl TopicKind {
    /// What the command, and the first word of its confirmation, begins with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Channel => "",
            Self::Pattern => "p",
            Self::Shard => "s",
        }
    }

    /// The first word of the confirmation of a subscription, or of its end.
    pub(in crate::proxy) fn word(self, begins: bool) -> String {
        format!("{}{}", self.prefix(), if begins { "subscribe" } else { "unsubscribe" })
    }
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
