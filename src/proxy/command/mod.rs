//! What the proxy knows of each command: arity and places of keys, as a real server's `COMMAND` tells them
//! (`commands.txt`; a test compares it), and what the proxy does with it.

mod keys;
mod listing;
mod policy;
mod streams;
mod table;

pub(crate) use keys::KeySpec;
pub(crate) use listing::{put_all, put_infos};
pub(crate) use policy::{Local, Plan, Split};
pub(crate) use streams::StreamRead;
pub(crate) use table::{Command, CommandId, Found, table};
