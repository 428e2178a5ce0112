//! What the proxy knows of each command: arity and places of keys, as a real server's `COMMAND` tells them
//! (`commands.txt`; a test compares it) or as `more_commands.txt` adds, and what the proxy does with it.

mod keys;
mod listing;
mod patience;
mod policy;
mod scan;
mod streams;
mod table;

pub(crate) use keys::KeySpec;
pub(crate) use listing::{count, put_all, put_infos};
pub(crate) use patience::Patience;
pub(crate) use policy::{Everywhere, Local, Optional, Plan, Split, Subscribe, TimeoutAt, Transact};
pub(crate) use scan::{ScanCursor, ScanPlace};
pub(crate) use streams::{StreamRead, last_entry};
pub(crate) use table::{Command, CommandId, Found, table};
