use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Client, Session, Verdict};
use crate::proxy::command::{Command, CommandId, table};
use crate::proxy::resp::{Limits, Request, RequestParser, Step, decimal, put_array, put_bulk, put_integer, put_simple};
use crate::proxy::worker::{SlowEntry, Worker, kept_args};

/// Entries that `SLOWLOG GET` shows without a number; as Redis.
const SHOWN: usize = 10;

impl Client {
    /// Remembers a request of this client if it took long: as it was sent on, where that is still known.
    pub(in crate::proxy) fn note_if_slow(
        &self,
        worker: &Worker,
        command: CommandId,
        since: Instant,
        raw: Option<&[u8]>,
    ) {
        let took = worker.now().saturating_duration_since(since);
        if worker.settings.slow.is_none_or(|slow| took < slow) {
            return;
        }
        let args = raw
            .and_then(args_of)
            .unwrap_or_else(|| vec![table().name_of(command).to_uppercase().into_bytes()]);
        let session = self.session.borrow();
        let entry = SlowEntry {
            id: worker.settings.next_slow_id.fetch_add(1, Ordering::Relaxed),
            at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
            took,
            args,
            addr: session.about.addr.to_string(),
            name: session.name.clone(),
        };
        worker.slow_log.add(entry, worker.settings.slowlog_max_len);
    }
}

impl Session {
    /// `SLOWLOG`: what took long in all workers.
    pub(super) fn slow_log(
        &mut self,
        worker: &Rc<Worker>,
        client: &Rc<Client>,
        command: &'static Command,
        request: &Request<'_>,
    ) -> Verdict {
        let sub = match self.subcommand(worker, command, request) {
            Ok(sub) => sub,
            Err(verdict) => return verdict,
        };
        if request.len() > 3 {
            return self.wrong_number(worker, sub);
        }
        let settings = worker.settings.clone();
        let most = settings.slowlog_max_len;
        match sub.short_name() {
            "get" => {
                let shown = match request.get(2).map(decimal) {
                    None => SHOWN,
                    Some(Some(-1)) => most,
                    Some(Some(count @ 0..)) => usize::try_from(count).unwrap_or(most).min(most),
                    Some(_) => {
                        let text = "ERR count should be greater than or equal to -1";
                        return self.reject(worker, command.id, text);
                    }
                };
                self.answer_later(worker, client, command.id, async move {
                    let asked = settings.peers.ask(|worker| worker.slow_log.entries()).await;
                    let mut entries: Vec<_> = asked.into_iter().flatten().collect();
                    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.id));
                    entries.truncate(shown);
                    let mut reply = Vec::new();
                    put_array(&mut reply, entries.len());
                    entries.iter().for_each(|entry| put_entry(&mut reply, entry));
                    reply
                })
            }
            "len" => self.answer_later(worker, client, command.id, async move {
                let lens = settings.peers.ask(|worker| worker.slow_log.len()).await;
                let mut reply = Vec::new();
                put_integer(&mut reply, lens.into_iter().sum::<usize>().min(most) as i64);
                reply
            }),
            "reset" => self.answer_later(worker, client, command.id, async move {
                settings.peers.ask(|worker| worker.slow_log.reset()).await;
                let mut reply = Vec::new();
                put_simple(&mut reply, "OK");
                reply
            }),
            _ => self.not_allowed(worker, sub, ""),
        }
    }
}

fn args_of(raw: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parser = RequestParser::default();
    match parser.parse(raw, Limits::AUTHENTICATED) {
        Ok(Step::Done(len)) => Some(kept_args(&parser.request(raw, len))),
        Ok(Step::More) | Err(_) => None,
    }
}

fn put_entry(out: &mut Vec<u8>, entry: &SlowEntry) {
    put_array(out, 6);
    put_integer(out, entry.id as i64);
    put_integer(out, entry.at as i64);
    put_integer(out, i64::try_from(entry.took.as_micros()).unwrap_or(i64::MAX));
    put_array(out, entry.args.len());
    entry.args.iter().for_each(|arg| put_bulk(out, arg));
    put_bulk(out, entry.addr.as_bytes());
    put_bulk(out, &entry.name);
}
