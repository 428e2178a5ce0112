//! `SLOTSMAPPING`: where slots are, in the form in which Codis' proxy answers it.

use super::{Session, Verdict};
use crate::model::{Slot, SlotId};
use crate::proxy::command::Command;
use crate::proxy::resp::{Request, decimal, put_array, put_simple};
use crate::proxy::worker::Worker;

/// How much of what is no slot's number the error shows.
const SHOWN: usize = 128;

impl Session {
    /// One slot, or all of them.
    pub(super) fn slots_mapping(&mut self, worker: &Worker, command: &Command, request: &Request<'_>) -> Verdict {
        if request.len() > 2 {
            return self.wrong_number(worker, command);
        }
        let map = &worker.settings.map;
        let Some(given) = request.get(1) else {
            return self.answer(worker, command.id, |out| {
                let map = map.lock();
                put_array(out, map.slots().len());
                map.slots().iter().for_each(|slot| put_slot(out, slot));
            });
        };
        match slot_of(given) {
            Ok(id) => self.answer(worker, command.id, |out| put_slot(out, &map.lock().slots()[id.index()])),
            Err(reason) => {
                let given = String::from_utf8_lossy(&given[..given.len().min(SHOWN)]);
                let text = format!("ERR parse slotnum '{given}' failed, {reason}");
                self.reject(worker, command.id, &text)
            }
        }
    }
}

fn slot_of(given: &[u8]) -> Result<SlotId, String> {
    let number = decimal(given).ok_or("it is not a number")?;
    SlotId::new(number).map_err(|error| error.to_string())
}

/// Its number, its server, the one that its keys come from, and its groups of replicas.
fn put_slot(out: &mut Vec<u8>, slot: &Slot) {
    put_array(out, 4);
    put_simple(out, &slot.id.get().to_string());
    for server in [&slot.backend_addr, &slot.migrate_from] {
        put_simple(out, server.as_ref().map_or("", |server| server.as_str()));
    }
    put_array(out, slot.replica_groups.len());
    for group in &slot.replica_groups {
        put_array(out, group.len());
        group.iter().for_each(|server| put_simple(out, server.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_is_written_as_codis_does() {
        let server = |text: &str| text.parse().unwrap();
        let slot = Slot {
            backend_addr: Some(server("a:1")),
            replica_groups: vec![vec![server("b:1"), server("a:1")], Vec::new()],
            ..Slot::offline(SlotId::new(7).unwrap())
        };
        let mut out = Vec::new();
        put_slot(&mut out, &slot);
        put_slot(&mut out, &Slot::offline(SlotId::new(8).unwrap()));
        let want = "*4\r\n+7\r\n+a:1\r\n+\r\n*2\r\n*2\r\n+b:1\r\n+a:1\r\n*0\r\n*4\r\n+8\r\n+\r\n+\r\n*0\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}
