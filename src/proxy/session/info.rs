use std::rc::Rc;
use std::sync::Arc;

use super::keyspace::{self, Keyspace};
use super::local::REDIS_VERSION;
use super::{Client, Session, Verdict};
use crate::model::OpStat;
use crate::proxy::command::Command;
use crate::proxy::host;
use crate::proxy::resp::{Request, put_bulk};
use crate::proxy::slots::SlotCounts;
use crate::proxy::worker::{Readings, Settings, Worker};

/// A part of `INFO`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Server,
    Clients,
    Memory,
    Stats,
    Replication,
    Cpu,
    Codis,
    CommandStats,
    ErrorStats,
    Cluster,
    Keyspace,
}

/// Each with its name, and whether it is shown to whom asks for none by name; as Redis.
const SECTIONS: [(Section, &str, bool); 11] = [
    (Section::Server, "Server", true),
    (Section::Clients, "Clients", true),
    (Section::Memory, "Memory", true),
    (Section::Stats, "Stats", true),
    (Section::Replication, "Replication", true),
    (Section::Cpu, "CPU", true),
    (Section::Codis, "Codis", true),
    (Section::CommandStats, "Commandstats", false),
    (Section::ErrorStats, "Errorstats", true),
    (Section::Cluster, "Cluster", true),
    (Section::Keyspace, "Keyspace", true),
];

/// What the sections are made of.
struct Scene {
    settings: Arc<Settings>,
    readings: Readings,
    slots: SlotCounts,
    keyspace: Keyspace,
}

impl Session {
    /// `INFO [section …]` of this proxy, and what it knows of the cluster.
    pub(super) fn info(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &Command,
        request: &Request<'_>,
    ) -> Verdict {
        let wanted = wanted(request.args_from(1));
        let (settings, slots) = (worker.settings.clone(), worker.router.slot_counts());
        let keyspace = wanted.contains(&Section::Keyspace).then(|| keyspace::ask(worker));
        self.answer_later(worker, client, command.id, async move {
            let mut readings = Readings::default();
            for more in settings.peers.ask(Readings::of).await {
                readings.add(more);
            }
            let scene = Scene {
                settings,
                readings,
                slots,
                keyspace: match keyspace {
                    Some(asked) => asked.await,
                    None => Keyspace::default(),
                },
            };
            let mut reply = Vec::new();
            put_bulk(&mut reply, text(&wanted, &scene).as_bytes());
            reply
        })
    }
}

/// Sections that are not known are passed over, as in Redis.
fn wanted<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<Section> {
    let names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).to_lowercase()).collect();
    let named = |name: &str| names.iter().any(|given| *given == name.to_lowercase());
    let all = named("all") || named("everything");
    let default = names.is_empty() || named("default");
    let shown = SECTIONS
        .iter()
        .filter(|(_, name, usual)| all || (default && *usual) || named(name));
    shown.map(|(section, ..)| *section).collect()
}

fn text(wanted: &[Section], scene: &Scene) -> String {
    let mut text = String::new();
    for (section, name, _) in SECTIONS.iter().filter(|(section, ..)| wanted.contains(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        text.push_str(&format!("# {name}\r\n"));
        for line in lines(*section, scene) {
            text.push_str(&line);
            text.push_str("\r\n");
        }
    }
    text
}

fn lines(section: Section, scene: &Scene) -> Vec<String> {
    let Scene {
        settings,
        readings,
        slots,
        keyspace,
    } = scene;
    let (accepted, alive) = settings.sessions.get();
    match section {
        Section::Server => vec![
            format!("redis_version:{REDIS_VERSION}"),
            "redis_mode:standalone".to_owned(),
            format!("codis_proxy_version:{}", env!("CARGO_PKG_VERSION")),
            format!("product_name:{}", settings.product_name),
            format!("process_id:{}", std::process::id()),
            format!("uptime_in_seconds:{}", settings.started.elapsed().as_secs()),
            format!("uptime_in_days:{}", settings.started.elapsed().as_secs() / 86_400),
            format!("proxy_workers:{}", settings.workers),
        ],
        Section::Clients => vec![
            format!("connected_clients:{alive}"),
            format!("maxclients:{}", settings.max_clients),
            format!("client_recent_max_output_buffer:{}", readings.clients.largest_output),
            format!("blocked_clients:{}", readings.clients.held),
        ],
        Section::Memory => vec![format!("used_memory_rss:{}", host::resident_bytes())],
        Section::Stats => vec![
            format!("total_connections_received:{accepted}"),
            format!("total_commands_processed:{}", readings.totals.total),
            format!("total_net_input_bytes:{}", readings.from_clients),
            format!("total_net_output_bytes:{}", readings.to_clients),
            format!("total_error_replies:{}", readings.errors.total()),
            format!("wrong_passwords:{}", settings.guesses.counts().0),
        ],
        Section::Replication => vec!["role:master".to_owned()],
        Section::Cpu => {
            let (user, system) = host::cpu_seconds();
            vec![format!("used_cpu_sys:{system:.6}"), format!("used_cpu_user:{user:.6}")]
        }
        Section::Codis => {
            let servers = || readings.backends.values();
            let connected = servers().filter(|server| server.connected > 0).count();
            let under_way: u64 = servers().map(|server| server.under_way).sum();
            vec![
                format!("slots_open:{}", slots.open),
                format!("slots_locked:{}", slots.locked),
                format!("slots_offline:{}", slots.offline),
                format!("servers:{}", readings.backends.len()),
                format!("servers_connected:{connected}"),
                format!("requests_under_way:{under_way}"),
            ]
        }
        Section::CommandStats => readings.totals.commands.iter().map(command_line).collect(),
        Section::ErrorStats => {
            let kinds = readings.errors.by_kind().filter(|(_, count)| *count > 0);
            kinds
                .map(|(kind, count)| format!("errorstat_{kind}:count={count}"))
                .collect()
        }
        Section::Cluster => vec!["cluster_enabled:0".to_owned()],
        Section::Keyspace => keyspace.lines(),
    }
}

fn command_line(command: &OpStat) -> String {
    format!(
        "cmdstat_{}:calls={},usec={},usec_per_call={}.00,rejected_calls=0,failed_calls={}",
        command.opstr.to_lowercase(),
        command.calls,
        command.usecs,
        command.usecs_percall,
        command.fails + command.redis_errtype,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_chosen_as_redis_does() {
        let of = |names: &[&str]| wanted(names.iter().map(|name| name.as_bytes()));
        assert!(!of(&[]).contains(&Section::CommandStats) && of(&[]).contains(&Section::Codis));
        assert_eq!(of(&["all"]).len(), SECTIONS.len());
        assert_eq!(of(&["STATS", "cpu", "nosuch"]), [Section::Stats, Section::Cpu]);
        assert_eq!(of(&["default", "commandstats"]).len(), SECTIONS.len());
        assert!(of(&["nosuch"]).is_empty());
    }
}
