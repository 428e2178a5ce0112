use super::{Command, Found, table};
use crate::proxy::resp::{Protocol, put_array, put_bulk, put_integer, put_null, put_simple};

/// The answer to `COMMAND`: all commands that are not refused.
pub(crate) fn put_all(out: &mut Vec<u8>) {
    let served = || table().all().iter().filter(|command| command.is_served());
    put_array(out, served().count());
    for command in served() {
        put_info(out, command);
    }
}

/// The answer to `COMMAND INFO name …`: nothing for those that are unknown or refused.
pub(crate) fn put_infos<'a>(out: &mut Vec<u8>, protocol: Protocol, names: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_array(out, names.len());
    for name in names {
        match table().find(name) {
            Found::Known(command) if command.is_served() => put_info(out, command),
            _ => put_null(out, protocol),
        }
    }
}

fn put_info(out: &mut Vec<u8>, command: &Command) {
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
    put_array(out, command.subcommands.len());
    for subcommand in &command.subcommands {
        put_info(out, subcommand);
    }
}
