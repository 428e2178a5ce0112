use std::sync::OnceLock;

use super::{KeySpec, Optional, Plan, policy};

/// `COMMAND` of Valkey 8.1: name, arity, first and last key and step, flags, key specifications.
const COMMANDS: &str = include_str!("commands.txt");
/// What it does not know, in the same form: commands of Redis 7.4, and Codis' own that need no server.
const MORE_COMMANDS: &str = include_str!("more_commands.txt");

/// Longest name that is looked up; as Codis.
const MAX_NAME: usize = 64;

/// A command's place in the figures. The last one stands for all that have none of their own.
pub(crate) type CommandId = u16;

/// A command, or a subcommand (`xgroup|create`).
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// Lower case.
    pub(crate) name: &'static str,
    /// Number of arguments with the name; negative: at least.
    pub(crate) arity: i32,
    /// First key, last key (negative: from the end), step.
    pub(crate) range: [i32; 3],
    /// Flags as the server names them.
    pub(crate) flags: Vec<&'static str>,
    /// Where its keys are.
    pub(crate) keys: Vec<KeySpec>,
    /// What follows a container's name.
    pub(crate) subcommands: Vec<Command>,
    /// What the proxy does with it.
    pub(crate) plan: Plan,
    /// Its place in the figures, subcommands' being their container's.
    pub(crate) id: CommandId,
}

impl Command {
    /// Whether so many arguments are right.
    pub(crate) fn takes(&self, args: usize) -> bool {
        let args = i32::try_from(args).unwrap_or(i32::MAX);
        if self.arity >= 0 {
            args == self.arity
        } else {
            args >= -self.arity
        }
    }

    /// Whether the server says that of it.
    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether clients may use it.
    pub(crate) fn is_served(&self, optional: Optional) -> bool {
        self.plan != Plan::Denied && optional.allows(self)
    }

    /// The subcommand of this name, in any case.
    pub(crate) fn subcommand(&self, name: &[u8]) -> Option<&Command> {
        self.subcommands
            .iter()
            .find(|sub| sub.short_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// The name without its container's.
    pub(crate) fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, short)| short)
    }
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    /// A command.
    Known(&'a Command),
    /// A command that servers may know, and that is never let through.
    Refused,
    /// Nothing that this version knows.
    Unknown,
    /// No command's name is as short or long.
    BadLength,
}

/// All commands, by name.
#[derive(Debug)]
pub(crate) struct CommandTable {
    commands: Vec<Command>,
    /// Open addressing over [`hash`]; 0 is empty, else the command's place plus one.
    index: Vec<u16>,
}

/// The one table; built at its first use.
pub(crate) fn table() -> &'static CommandTable {
    static TABLE: OnceLock<CommandTable> = OnceLock::new();
    TABLE.get_or_init(|| CommandTable::parse(&[COMMANDS, MORE_COMMANDS]))
}

impl CommandTable {
    /// Reads the committed texts, of which a test compares the first with a server; lines it can't read are left out.
    fn parse(texts: &[&'static str]) -> Self {
        let mut commands: Vec<Command> = Vec::new();
        let mut subcommands = Vec::new();
        for command in texts.iter().flat_map(|text| text.lines()).filter_map(parse_line) {
            if command.name.contains('|') {
                subcommands.push(command)
            } else {
                commands.push(command)
            }
        }
        for subcommand in subcommands {
            let container = subcommand.name.split_once('|').map_or("", |(container, _)| container);
            if let Some(container) = commands.iter_mut().find(|command| command.name == container) {
                container.subcommands.push(subcommand);
            }
        }
        let size = (commands.len() * 4).next_power_of_two();
        let mut index = vec![0; size];
        for (place, command) in commands.iter_mut().enumerate() {
            command.id = place as CommandId;
            for subcommand in &mut command.subcommands {
                subcommand.id = place as CommandId;
                subcommand.plan = policy::plan(subcommand);
            }
            command.plan = policy::plan(command);
            let mut at = hash(command.name.as_bytes()) & (size - 1);
            while index[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            index[at] = place as u16 + 1;
        }
        Self { commands, index }
    }

    /// What this name, in any case, stands for.
    pub(crate) fn find(&self, name: &[u8]) -> Found<'_> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Found::BadLength;
        }
        let mut lower = [0_u8; MAX_NAME];
        let lower = &mut lower[..name.len()];
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let mut at = hash(lower) & (self.index.len() - 1);
        while let Some(place) = self.index[at].checked_sub(1) {
            let command = &self.commands[usize::from(place)];
            if command.name.as_bytes() == lower {
                return Found::Known(command);
            }
            at = (at + 1) & (self.index.len() - 1);
        }
        if policy::is_refused_name(lower) {
            Found::Refused
        } else {
            Found::Unknown
        }
    }

    /// All commands, by name.
    pub(crate) fn all(&self) -> &[Command] {
        &self.commands
    }

    /// The name of the command at this place in the figures.
    pub(crate) fn name_of(&self, id: CommandId) -> &'static str {
        self.commands
            .get(usize::from(id))
            .map_or("other", |command| command.name)
    }

    /// The place in the figures of what has none of its own.
    pub(crate) fn other(&self) -> CommandId {
        self.commands.len() as CommandId
    }
}

/// Over length and the first and last eight bytes, which tell all commands apart well enough.
fn hash(name: &[u8]) -> usize {
    let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
    let head = word(&name[..name.len().min(8)]);
    let tail = word(&name[name.len().saturating_sub(8)..]);
    let mixed = (head ^ tail.rotate_left(25) ^ (name.len() as u64) << 58).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize
}

fn parse_line(line: &'static str) -> Option<Command> {
    let mut fields = line.split(' ');
    let name = fields.next()?;
    let mut number = || fields.next()?.parse::<i32>().ok();
    let (arity, range) = (number()?, [number()?, number()?, number()?]);
    let flags = fields.next()?.split(',').filter(|flag| *flag != "-").collect();
    let keys = fields.map(KeySpec::parse).collect::<Option<Vec<_>>>()?;
    Some(Command {
        name,
        arity,
        range,
        flags,
        keys,
        subcommands: Vec::new(),
        plan: Plan::Denied,
        id: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::command::{Local, Split, Subscribe};
    use crate::proxy::pubsub::TopicKind;

    fn plan_of(name: &str) -> Option<Plan> {
        match table().find(name.as_bytes()) {
            Found::Known(command) => Some(command.plan),
            _ => None,
        }
    }

    #[test]
    fn every_line_of_the_table_is_read() {
        let read: usize = table().all().iter().map(|c| 1 + c.subcommands.len()).sum();
        assert_eq!(read, COMMANDS.lines().count() + MORE_COMMANDS.lines().count());
        for command in table().all() {
            assert!(
                matches!(table().find(command.name.to_uppercase().as_bytes()), Found::Known(c) if c.name == command.name)
            );
        }
    }

    #[test]
    fn commands_are_treated_by_their_kind() {
        assert_eq!(plan_of("GeT"), Some(Plan::Key(1)));
        assert_eq!(plan_of("MGET"), Some(Plan::Split(Split::Mget)));
        assert_eq!(plan_of("zunionstore"), Some(Plan::Keys));
        assert_eq!(plan_of("xgroup"), Some(Plan::Container));
        let to = |begins, topics| Some(Plan::Subscribe(Subscribe { begins, topics }));
        assert_eq!(plan_of("subscribe"), to(true, TopicKind::Channel));
        assert_eq!(plan_of("unsubscribe"), to(false, TopicKind::Channel));
        assert_eq!(plan_of("psubscribe"), to(true, TopicKind::Pattern));
        assert_eq!(plan_of("punsubscribe"), to(false, TopicKind::Pattern));
        assert_eq!(plan_of("ssubscribe"), to(true, TopicKind::Shard));
        assert_eq!(plan_of("sunsubscribe"), to(false, TopicKind::Shard));
        assert_eq!(plan_of("publish"), Some(Plan::Key(1)));
        assert_eq!(plan_of("pubsub"), Some(Plan::Container));
        assert_eq!(plan_of("hello"), Some(Plan::Local(Local::Hello)));
        for name in ["WAIT", "RESTORE-ASKING", "MIGRATE", "MOVE"] {
            assert_eq!(plan_of(name), Some(Plan::Denied), "{name}");
        }
        for name in [
            "SLOTSRESTORE-ASYNC",
            "SLOTSMGRTTAGSLOT-ASYNC",
            "slotsdel",
            "HOST:",
            "POST",
        ] {
            assert!(matches!(table().find(name.as_bytes()), Found::Refused), "{name}");
        }
        assert!(matches!(table().find(b"nosuch"), Found::Unknown));
        assert!(matches!(table().find(&[b'x'; 65]), Found::BadLength));
    }

    #[test]
    fn redis_commands_that_valkey_does_not_know_are_forwarded_by_their_key() {
        let is = |name: &str, arity: i32, writes: bool| {
            let Found::Known(command) = table().find(name.as_bytes()) else {
                panic!("{name} is known")
            };
            assert_eq!((command.plan, command.arity), (Plan::Key(1), arity), "{name}");
            assert_eq!(
                (command.has_flag("write"), command.has_flag("readonly")),
                (writes, !writes),
                "{name}"
            );
        };
        for name in ["HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT"] {
            is(name, -6, true);
        }
        is("HPERSIST", -5, true);
        for name in ["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME"] {
            is(name, -5, false);
        }
        assert_eq!(plan_of("slotshashkey"), Some(Plan::Local(Local::SlotsHashKey)));
        assert_eq!(plan_of("slotsmapping"), Some(Plan::Local(Local::SlotsMapping)));
    }

    #[test]
    fn numbers_of_arguments_are_checked() {
        let Found::Known(get) = table().find(b"get") else {
            panic!("get is known")
        };
        assert!(get.takes(2) && !get.takes(1) && !get.takes(3));
        let Found::Known(del) = table().find(b"del") else {
            panic!("del is known")
        };
        assert!(del.takes(2) && del.takes(9) && !del.takes(1));
    }
}
