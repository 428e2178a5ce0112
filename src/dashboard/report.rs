//! What the dashboard tells of servers and proxies beyond Codis' stats.

use std::collections::HashMap;
use std::time::Instant;

use super::observations::Seen;
use super::term::Term;
use crate::model::{
    Group, GroupServer, GroupStatus, HostPort, Proxy, ProxyStatsEntry, ProxyStatus, ServerStatus, SlotId, Status,
};

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
            .map(|record| {
                let acknowledged = term.links.of(&record.token).is_complete();
                let (epoch, poll) = (topology.proxy_epoch(&record.token), polled.get(record.token.as_str()));
                proxy(record, epoch, acknowledged, poll)
            })
            .collect(),
    }
}

/// A proxy as its last poll of this term found it, if there was one.
fn proxy(record: &Proxy, epoch: i64, acknowledged: bool, poll: Option<&ProxyStatsEntry>) -> ProxyStatus {
    let stats = poll.and_then(|poll| poll.stats.as_ref());
    ProxyStatus {
        token: record.token.clone(),
        epoch,
        admin_addr: record.admin_addr.clone(),
        polled: poll.is_some(),
        reachable: stats.is_some(),
        acknowledged,
        shut_off: record.shut_off,
        servers: stats.map(|stats| stats.servers.clone()).unwrap_or_default(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ProxyStatsBody;

    #[test]
    fn proxy_that_was_not_polled_in_this_term_is_told_apart_from_one_that_did_not_answer() {
        let record: Proxy = serde_json::from_value(serde_json::json!({
            "token": "t1", "start_time": "", "admin_addr": "p:11080", "proto_type": "tcp", "proxy_addr": "p:19000",
            "product_name": "shop", "pid": 1, "pwd": "", "sys": "",
        }))
        .unwrap();
        let answered = |poll: Option<&ProxyStatsEntry>| proxy(&record, 3, true, poll).answered();
        let silent = ProxyStatsEntry {
            timeout: true,
            ..ProxyStatsEntry::default()
        };
        let answers = ProxyStatsEntry {
            stats: Some(ProxyStatsBody::default()),
            ..ProxyStatsEntry::default()
        };
        assert_eq!(answered(None), None);
        assert_eq!(answered(Some(&silent)), Some(false));
        assert_eq!(answered(Some(&answers)), Some(true));
    }
}
