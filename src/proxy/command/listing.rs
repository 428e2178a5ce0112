use super::{Command, Found, Optional, Plan, table};
use crate::proxy::resp::{Protocol, put_array, put_bulk, put_integer, put_null, put_simple};

/// The answer to `COMMAND`: all commands that are not refused.
pub(crate) fn put_all(out: &mut Vec<u8>, optional: Optional) {
    let served = || served(table().all(), optional);
    put_array(out, served().count());
    for command in served() {
        put_info(out, command, optional);
    }
}

/// How many commands are not refused.
pub(crate) fn count(optional: Optional) -> usize {
    served(table().all(), optional).count()
}

fn served(commands: &[Command], optional: Optional) -> impl Iterator<Item = &Command> {
    commands.iter().filter(move |command| command.is_served(optional))
}

/// The answer to `COMMAND INFO name …`: nothing for those that are unknown or refused.
pub(crate) fn put_infos<'a>(
    out: &mut Vec<u8>,
    protocol: Protocol,
    optional: Optional,
    names: impl ExactSizeIterator<Item = &'a [u8]>,
) {
    put_array(out, names.len());
    for name in names {
        match table().find(name) {
            Found::Known(command) if command.is_served(optional) => put_info(out, command, optional),
            _ => put_null(out, protocol),
        }
    }
}

fn put_info(out: &mut Vec<u8>, command: &Command, optional: Optional) {
    put_array(out, 10);
    put_bulk(out, command.name.as_bytes());
    put_integer(out, command.arity.into());
    put_array(out, command.flags.len());
    for flag in &command.flags {
        put_simple(out, flag);
    }
    for number in command.range {
        put_integer(out, number.into());
    }
    // ACL categories, tips and key specifications: empty, as Redis lets them be.
    for _ in 0..3 {
        put_array(out, 0);
    }
    // Those of a command that the proxy answers have no plan of their own.
    let listed = |sub: &&Command| command.plan != Plan::Container || sub.is_served(optional);
    let subcommands = || command.subcommands.iter().filter(listed);
    put_array(out, subcommands().count());
    for subcommand in subcommands() {
        put_info(out, subcommand, optional);
    }
}
