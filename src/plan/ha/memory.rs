//! Primaries whose memory is used up.

use super::sight::{Decision, GroupSight, Notice, NoticeReason};
use crate::model::Info;

/// Tells of a primary that refuses writes for want of memory. Its replicas have as much, so that none of them could help.
pub(super) fn tell(group: &GroupSight, decision: &mut Decision) {
    let Some(primary) = group.servers.first() else { return };
    if !primary.info().is_some_and(Info::memory_is_full) {
        return;
    }
    let message = format!(
        "group {}: {} has as much in its memory as spec.servers.maxMemory allows, and refuses writes: raise that, or let \
         keys go (servers.config: maxmemory-policy)",
        group.record.id, primary.server
    );
    decision.notices.push(Notice {
        reason: NoticeReason::MemoryFull,
        message,
    });
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Film, answer, group, only_told, server};
    use super::*;

    #[test]
    fn primary_whose_memory_is_used_up_is_told_of() {
        let mut group = group();
        let info =
            "run_id:run-a:1\nrole:master\nmaster_replid:h\nmaxmemory:9\nused_memory:9\nmaxmemory_policy:noeviction\n";
        group.servers[0] = server("a:1", answer(info));
        only_told(&Film::new().group(&group), NoticeReason::MemoryFull);
    }
}
