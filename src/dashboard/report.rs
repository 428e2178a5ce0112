//! What the dashboard tells of servers and proxies beyond Codis' stats.

use std::collections::HashMap;
use std::time::Instant;

use super::observations::Seen;
use super::term::Term;
use crate::model::{Group, GroupServer, GroupStatus, HostPort, ProxyStatus, ServerStatus, SlotId, Status};

/// `GET /api/topom/v2/status`.
pub(crate) fn status(term: &Term) -> Status {
    let (topology, seen, now) = (term.topology(), term.observations.seen(), Instant::now());
    let polled = term.observations.proxies();
    Status {
        lock_epoch: term.epoch(),
        slots_epoch: SlotId::all().map(|id| topology.slot_epoch(id)).max().unwrap_or(0),
        groups: topology
            .groups()
            .map(|group| GroupStatus {
                epoch: topology.group_epoch(group.id),
                group: group.clone(),
                servers: group
                    .servers
                    .iter()
                    .map(|record| server(group, record, &seen, now))
                    .collect(),
            })
            .collect(),
        proxies: topology
            .proxies()
            .map(|proxy| ProxyStatus {
                token: proxy.token.clone(),
                epoch: topology.proxy_epoch(&proxy.token),
                admin_addr: proxy.admin_addr.clone(),
                reachable: polled
                    .get(proxy.token.as_str())
                    .is_some_and(|poll| poll.stats.is_some()),
                acknowledged: term.links.of(&proxy.token).is_complete(),
                shut_off: proxy.shut_off,
            })
            .collect(),
    }
}

fn server(group: &Group, record: &GroupServer, seen: &HashMap<HostPort, Seen>, now: Instant) -> ServerStatus {
    let poll = seen.get(&record.server);
    let info = poll.and_then(|poll| poll.answer.as_ref().ok()).cloned();
    let error = poll.and_then(|poll| poll.answer.as_ref().err()).cloned();
    let since = poll
        .and_then(|poll| poll.answered_at)
        .map(|at| now.saturating_duration_since(at));
    let reachable = info.is_some();
    let info = info.unwrap_or_default();
    ServerStatus {
        server: record.server.clone(),
        reachable,
        error: error.unwrap_or_default(),
        answered_ms_ago: since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        run_id: info.run_id().to_owned(),
        role: info.role().to_owned(),
        admitted: reachable && record.admitted_run_id.as_deref() == Some(info.run_id()),
        in_sync: group.in_sync.contains(&record.server),
        linked: info.is_linked(),
        last_io_seconds: info.silence(),
        history: info.history().to_owned(),
        offset: info.offset(),
        keys: info.keys(),
    }
}
