use wildmatch::WildMatch;

use super::{Session, Verdict};
use crate::proxy::command::Command;
use crate::proxy::resp::{Request, begin_map, put_bulk};
use crate::proxy::worker::{Settings, Worker};

impl Session {
    /// `CONFIG GET`: what clients ask for before they begin. Nothing can be set, and no password is told.
    pub(super) fn config(&mut self, worker: &Worker, command: &'static Command, request: &Request<'_>) -> Verdict {
        let sub = match self.subcommand(worker, command, request) {
            Ok(sub) => sub,
            Err(verdict) => return verdict,
        };
        if sub.short_name() != "get" {
            return self.not_allowed(worker, sub, "");
        }
        let lower = |pattern: &[u8]| String::from_utf8_lossy(pattern).to_lowercase();
        let patterns: Vec<_> = request.args_from(2).map(|arg| WildMatch::new(&lower(arg))).collect();
        let mut parameters = parameters(&worker.settings);
        parameters.retain(|(name, _)| patterns.iter().any(|pattern| pattern.matches(name)));
        let protocol = self.protocol;
        self.answer(worker, command.id, |out| {
            begin_map(out, protocol, parameters.len());
            for (name, value) in &parameters {
                put_bulk(out, name.as_bytes());
                put_bulk(out, value.as_bytes());
            }
        })
    }
}

/// Redis' names for what is so here. What servers have for themselves (their memory, their policy) is not told: it may
/// differ from one to the next.
fn parameters(settings: &Settings) -> Vec<(&'static str, String)> {
    let seconds = |time: Option<std::time::Duration>| time.map_or(0, |time| time.as_secs()).to_string();
    let slow = settings.slow.map_or(-1, |slow| slow.as_micros() as i64);
    vec![
        // Redis' benchmark asks for these two.
        ("appendonly", "no".to_owned()),
        ("save", String::new()),
        ("cluster-enabled", "no".to_owned()),
        (
            "client-output-buffer-limit",
            format!("normal {} 0 0", settings.session_max_output),
        ),
        ("databases", settings.databases.to_string()),
        ("io-threads", settings.workers.to_string()),
        ("maxclients", settings.max_clients.to_string()),
        ("proto-max-bulk-len", (512 << 20).to_string()),
        ("slowlog-log-slower-than", slow.to_string()),
        ("slowlog-max-len", settings.slowlog_max_len.to_string()),
        ("tcp-keepalive", seconds(settings.session_keepalive)),
        ("timeout", seconds(settings.session_recv_timeout)),
    ]
}
