use super::{Command, ScanPlace};
use crate::proxy::pubsub::TopicKind;

/// What the proxy does with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Forwarded by the one key, which is this argument.
    Key(u16),
    /// Forwarded by its keys, which have to lie in one slot.
    Keys,
    /// `SORT`: its patterns name keys too.
    Sort,
    /// `XREAD`, `XREADGROUP`: forwarded by its keys; over the client's own connection where it may wait.
    StreamRead,
    /// `COPY`: forwarded by its keys, unless it names a database.
    Copy,
    /// It may wait at the server: forwarded by its keys over the client's own connection.
    Blocking(TimeoutAt),
    /// Begins, ends or guards a transaction.
    Transaction(Transact),
    /// Begins or ends subscriptions.
    Subscribe(Subscribe),
    /// Runs a script or a function, which may be given by its name only.
    Script { by_name: bool },
    /// Sent to all servers, the replies merged.
    Everywhere(Everywhere),
    /// Any server could answer it: sent to that of slot 0.
    Anywhere,
    /// Split by slot, the replies merged.
    Split(Split),
    /// Answered by the proxy.
    Local(Local),
    /// Decided by the subcommand.
    Container,
    /// Refused.
    Denied,
}

/// Where a command that may wait says for how many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeoutAt {
    /// Right behind its name.
    First,
    /// At its end.
    Last,
}

/// Commands that all servers have a part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub(crate) enum Everywhere {
    DbSize,
    Flush,
    FunctionDelete,
    FunctionFlush,
    FunctionLoad,
    FunctionRestore,
    Keys,
    PubsubChannels,
    PubsubNumpat,
    PubsubNumsub,
    RandomKey,
    Scan,
    ScriptExists,
    ScriptFlush,
    ScriptLoad,
}

impl Everywhere {
    /// How the servers' replies become one.
    pub(crate) fn merged(self) -> Split {
        match self {
            Self::DbSize => Split::Count,
            Self::Keys => Split::Join,
            Self::RandomKey => Split::Any,
            Self::ScriptExists => Split::Every,
            Self::PubsubChannels => Split::Union,
            // Each server has all patterns.
            Self::PubsubNumpat => Split::Largest,
            Self::PubsubNumsub => Split::Sums,
            Self::Flush
            | Self::FunctionDelete
            | Self::FunctionFlush
            | Self::FunctionLoad
            | Self::FunctionRestore
            | Self::Scan
            | Self::ScriptFlush
            | Self::ScriptLoad => Split::Same,
        }
    }

    /// Whether what it answers depends on the keys that there are.
    pub(crate) fn reads_keys(self) -> bool {
        matches!(self, Self::DbSize | Self::Keys | Self::RandomKey | Self::Scan)
    }

    /// Whether it changes what servers keep: it waits for slots that are locked, and changes of the slot map for it.
    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::Flush | Self::FunctionDelete | Self::FunctionFlush | Self::FunctionLoad | Self::FunctionRestore
        )
    }
}

/// Commands that are served only where the settings say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Optional {
    /// `KEYS`.
    pub(crate) keys: bool,
    /// `FLUSHALL` and `FLUSHDB`.
    pub(crate) flush: bool,
}

impl Optional {
    /// Whether the settings have nothing against a command.
    pub(crate) fn allows(self, command: &Command) -> bool {
        match command.plan {
            Plan::Everywhere(Everywhere::Keys) => self.keys,
            Plan::Everywhere(Everywhere::Flush) => self.flush,
            _ => true,
        }
    }
}

/// Whether subscriptions begin, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscribe {
    /// Or end.
    pub(crate) begins: bool,
    /// What is subscribed to.
    pub(crate) topics: TopicKind,
}

/// The commands of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub(crate) enum Transact {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// How a command is split and merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Values, in the order of the keys.
    Mget,
    /// Not atomic over several slots, as in Codis.
    Mset,
    /// `DEL`, `UNLINK`, `EXISTS`, `TOUCH`: the sum.
    Count,
    /// One of the arrays' elements after the other.
    Join,
    /// Any of those that are there.
    Any,
    /// For each place in the arrays whether all have a 1 there.
    Every,
    /// All answer the same.
    Same,
    /// The elements of all arrays, each once.
    Union,
    /// The largest number.
    Largest,
    /// Arrays of names, the same in all, each followed by a number: these are summed.
    Sums,
    /// The keys of one server; the cursor leads on in it, and from it to the next one.
    Scan {
        /// The server.
        here: ScanPlace,
        /// The next, if there is one.
        next: Option<ScanPlace>,
    },
}

/// Commands that the proxy answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub(crate) enum Local {
    Auth,
    Client,
    Command,
    Config,
    Echo,
    Hello,
    Info,
    Ping,
    Quit,
    ReadOnly,
    ReadWrite,
    Reset,
    Select,
    SlotsHashKey,
    SlotsMapping,
    Slowlog,
    Time,
}

/// Refused although their keys can be told: what they do would go past the slot map. All others that are refused are so
/// by their flags, or because they have no key.
const DENIED: [&str; 2] = ["migrate", "move"];

/// Commands of codis-server, and HTTP's words, that Codis refuses. Servers' `COMMAND` does not name them.
const REFUSED_NAMES: [&[u8]; 4] = [b"host:", b"post", b"slaveof", b"restore-asking"];

/// Whether a name that the table does not know is one of those that are refused rather than unknown. Codis' own list
/// misses every name with a hyphen; this one does not.
pub(super) fn is_refused_name(lower: &[u8]) -> bool {
    lower.starts_with(b"slots") || REFUSED_NAMES.contains(&lower)
}

pub(super) fn plan(command: &Command) -> Plan {
    if let Some(local) = local(command.name) {
        return Plan::Local(local);
    }
    if !command.subcommands.is_empty() && command.subcommands.iter().any(|sub| sub.plan != Plan::Denied) {
        return Plan::Container;
    }
    match command.name {
        "mget" => return Plan::Split(Split::Mget),
        "mset" => return Plan::Split(Split::Mset),
        "del" | "unlink" | "exists" | "touch" => return Plan::Split(Split::Count),
        "sort" | "sort_ro" => return Plan::Sort,
        "xread" | "xreadgroup" => return Plan::StreamRead,
        "copy" => return Plan::Copy,
        "multi" => return Plan::Transaction(Transact::Multi),
        "exec" => return Plan::Transaction(Transact::Exec),
        "discard" => return Plan::Transaction(Transact::Discard),
        "watch" => return Plan::Transaction(Transact::Watch),
        "unwatch" => return Plan::Transaction(Transact::Unwatch),
        "eval" | "eval_ro" | "fcall" | "fcall_ro" => return Plan::Script { by_name: false },
        "evalsha" | "evalsha_ro" => return Plan::Script { by_name: true },
        "dbsize" => return Plan::Everywhere(Everywhere::DbSize),
        "flushall" | "flushdb" => return Plan::Everywhere(Everywhere::Flush),
        "keys" => return Plan::Everywhere(Everywhere::Keys),
        "randomkey" => return Plan::Everywhere(Everywhere::RandomKey),
        "scan" => return Plan::Everywhere(Everywhere::Scan),
        "function|delete" => return Plan::Everywhere(Everywhere::FunctionDelete),
        "function|flush" => return Plan::Everywhere(Everywhere::FunctionFlush),
        "function|load" => return Plan::Everywhere(Everywhere::FunctionLoad),
        "function|restore" => return Plan::Everywhere(Everywhere::FunctionRestore),
        // All servers were given the same.
        "function|dump" | "function|list" => return Plan::Anywhere,
        "pubsub|channels" | "pubsub|shardchannels" => return Plan::Everywhere(Everywhere::PubsubChannels),
        "pubsub|numpat" => return Plan::Everywhere(Everywhere::PubsubNumpat),
        "pubsub|numsub" | "pubsub|shardnumsub" => return Plan::Everywhere(Everywhere::PubsubNumsub),
        "script|exists" => return Plan::Everywhere(Everywhere::ScriptExists),
        "script|flush" => return Plan::Everywhere(Everywhere::ScriptFlush),
        "script|load" => return Plan::Everywhere(Everywhere::ScriptLoad),
        // A message goes where its channel lives.
        "publish" | "spublish" => return Plan::Key(1),
        "subscribe" | "psubscribe" | "ssubscribe" | "unsubscribe" | "punsubscribe" | "sunsubscribe" => {
            return Plan::Subscribe(subscribe(command.name));
        }
        "blmpop" | "bzmpop" => return Plan::Blocking(TimeoutAt::First),
        "blmove" | "blpop" | "brpop" | "brpoplpush" | "bzpopmax" | "bzpopmin" => {
            return Plan::Blocking(TimeoutAt::Last);
        }
        _ => {}
    }
    let refused = ["admin", "pubsub", "blocking", "asking"]
        .iter()
        .any(|flag| command.has_flag(flag));
    if refused || command.keys.is_empty() || DENIED.contains(&command.name) {
        return Plan::Denied;
    }
    match command.keys.as_slice() {
        [only] if let Some(place) = only.single() => Plan::Key(place),
        _ => Plan::Keys,
    }
}

fn subscribe(name: &str) -> Subscribe {
    Subscribe {
        begins: !name.contains("un"),
        topics: match name.as_bytes().first() {
            Some(b'p') => TopicKind::Pattern,
            Some(b's') if name.starts_with("ss") || name.starts_with("sun") => TopicKind::Shard,
            _ => TopicKind::Channel,
        },
    }
}

fn local(name: &str) -> Option<Local> {
    Some(match name {
        "auth" => Local::Auth,
        "client" => Local::Client,
        "command" => Local::Command,
        "config" => Local::Config,
        "echo" => Local::Echo,
        "hello" => Local::Hello,
        "info" => Local::Info,
        "ping" => Local::Ping,
        "quit" => Local::Quit,
        "readonly" => Local::ReadOnly,
        "readwrite" => Local::ReadWrite,
        "reset" => Local::Reset,
        "select" => Local::Select,
        "slotshashkey" => Local::SlotsHashKey,
        "slotsmapping" => Local::SlotsMapping,
        "slowlog" => Local::Slowlog,
        "time" => Local::Time,
        _ => return None,
    })
}
