use super::Command;

/// What the proxy does with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Forwarded by the one key, which is this argument.
    Key(u16),
    /// Forwarded by its keys, which have to lie in one slot.
    Keys,
    /// `SORT`: its patterns name keys too.
    Sort,
    /// `XREAD`, `XREADGROUP`: forwarded by its keys, unless it wants to wait.
    StreamRead,
    /// `COPY`: forwarded by its keys, unless it names a database.
    Copy,
    /// Split by slot, the replies merged.
    Split(Split),
    /// Answered by the proxy.
    Local(Local),
    /// Decided by the subcommand.
    Container,
    /// Refused.
    Denied,
}

/// Commands that are split and merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Values, in the order of the keys.
    Mget,
    /// Not atomic over several slots, as in Codis.
    Mset,
    /// `DEL`, `UNLINK`, `EXISTS`, `TOUCH`: the sum.
    Count,
}

/// Commands that the proxy answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the command of its name")]
pub(crate) enum Local {
    Auth,
    Client,
    Command,
    Echo,
    Hello,
    Info,
    Ping,
    Quit,
    ReadOnly,
    ReadWrite,
    Reset,
    Select,
    Time,
}

/// Refused although their keys can be told: Codis refuses them too. The others of Codis' list are refused by their
/// flags, or because they have no key.
const DENIED: [&str; 10] = [
    "asking", "bitop", "migrate", "move", "msetnx", "object", "rename", "renamenx", "restore", "watch",
];

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
        return if DENIED.contains(&command.name) {
            Plan::Denied
        } else {
            Plan::Container
        };
    }
    match command.name {
        "mget" => return Plan::Split(Split::Mget),
        "mset" => return Plan::Split(Split::Mset),
        "del" | "unlink" | "exists" | "touch" => return Plan::Split(Split::Count),
        "sort" | "sort_ro" => return Plan::Sort,
        "xread" | "xreadgroup" => return Plan::StreamRead,
        "copy" => return Plan::Copy,
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

fn local(name: &str) -> Option<Local> {
    Some(match name {
        "auth" => Local::Auth,
        "client" => Local::Client,
        "command" => Local::Command,
        "echo" => Local::Echo,
        "hello" => Local::Hello,
        "info" => Local::Info,
        "ping" => Local::Ping,
        "quit" => Local::Quit,
        "readonly" => Local::ReadOnly,
        "readwrite" => Local::ReadWrite,
        "reset" => Local::Reset,
        "select" => Local::Select,
        "time" => Local::Time,
        _ => return None,
    })
}
