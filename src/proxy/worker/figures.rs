use std::cell::Cell;
use std::time::Duration;

use super::Readings;
use super::errors::Errors;
use super::latency::Latency;
use crate::model::OpStat;
use crate::proxy::command::{CommandId, table};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Outcome {
    /// With an answer.
    Answered,
    /// With an error that a server answered, or one that a server would have answered.
    Error,
    /// With no answer that means anything: no server, a lost connection, …
    Failed,
}

impl Outcome {
    /// What a server's reply says.
    pub(in crate::proxy) fn of(reply: &[u8]) -> Self {
        match reply.first() {
            Some(b'-' | b'!') => Self::Error,
            _ => Self::Answered,
        }
    }
}

/// What one worker counted. Read by messages only, so that counting costs an addition.
#[derive(Debug)]
pub(in crate::proxy) struct Figures {
    server_errors: Cell<i64>,
    commands: Vec<PerCommand>,
    latency: Latency,
    errors: Errors,
    from_clients: Cell<u64>,
    to_clients: Cell<u64>,
    closed_for_memory: Cell<u64>,
}

#[derive(Debug, Default)]
struct PerCommand {
    calls: Cell<i64>,
    micros: Cell<i64>,
    fails: Cell<i64>,
    errors: Cell<i64>,
}

/// A copy of the figures of one worker, or the sum over several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Totals {
    /// Requests.
    pub(in crate::proxy) total: i64,
    /// Those without an answer.
    pub(in crate::proxy) fails: i64,
    /// Errors that servers answered.
    pub(in crate::proxy) server_errors: i64,
    /// By command, without `usecs_percall`.
    pub(in crate::proxy) commands: Vec<OpStat>,
}

impl Default for Figures {
    fn default() -> Self {
        let places = usize::from(table().other()) + 1;
        Self {
            server_errors: Cell::new(0),
            commands: (0..places).map(|_| PerCommand::default()).collect(),
            latency: Latency::default(),
            errors: Errors::default(),
            from_clients: Cell::new(0),
            to_clients: Cell::new(0),
            closed_for_memory: Cell::new(0),
        }
    }
}

fn add(cell: &Cell<i64>, number: i64) {
    cell.set(cell.get().wrapping_add(number));
}

impl Figures {
    /// Counts a request.
    pub(in crate::proxy) fn record(&self, command: CommandId, took: Duration, outcome: Outcome) {
        let Some(figures) = self.commands.get(usize::from(command)) else {
            return;
        };
        add(&figures.calls, 1);
        add(&figures.micros, took.as_micros() as i64);
        // What the proxy answers itself takes no time, and says nothing about the time that others take.
        if !took.is_zero() {
            self.latency.record(took);
        }
        match outcome {
            Outcome::Answered => {}
            Outcome::Error => add(&figures.errors, 1),
            Outcome::Failed => add(&figures.fails, 1),
        }
    }

    /// Counts a request that got this reply.
    pub(in crate::proxy) fn record_reply(&self, command: CommandId, took: Duration, outcome: Outcome, reply: &[u8]) {
        if outcome != Outcome::Answered {
            self.record_error(reply.get(1..).unwrap_or_default());
        }
        self.record(command, took, outcome);
    }

    /// Counts an error that a server answered.
    pub(in crate::proxy) fn record_server_error(&self) {
        add(&self.server_errors, 1);
    }

    /// Counts an error that a client gets, by its text without the sign.
    pub(in crate::proxy) fn record_error(&self, text: &[u8]) {
        self.errors.record(text);
    }

    /// Counts bytes that a client sent.
    pub(in crate::proxy) fn read_from_client(&self, bytes: usize) {
        self.from_clients.set(self.from_clients.get() + bytes as u64);
    }

    /// Counts bytes that a client took.
    pub(in crate::proxy) fn written_to_client(&self, bytes: usize) {
        self.to_clients.set(self.to_clients.get() + bytes as u64);
    }

    /// Counts clients that were closed because of the memory that they took.
    pub(in crate::proxy) fn closed_for_memory(&self, clients: usize) {
        self.closed_for_memory
            .set(self.closed_for_memory.get() + clients as u64);
    }

    /// Begins anew. What Prometheus reads and Codis has not goes on: it does not like to see counters fall.
    pub(in crate::proxy) fn reset(&self) {
        self.server_errors.set(0);
        for command in &self.commands {
            for cell in [&command.calls, &command.micros, &command.fails, &command.errors] {
                cell.set(0);
            }
        }
    }

    /// A copy of all; what is not counted here is left empty.
    pub(super) fn readings(&self) -> Readings {
        Readings {
            totals: self.totals(true),
            latencies: self.latency.copy(),
            errors: self.errors.copy(),
            from_clients: self.from_clients.get(),
            to_clients: self.to_clients.get(),
            closed_for_memory: self.closed_for_memory.get(),
            ..Readings::default()
        }
    }

    /// A copy; `by_command` only where asked.
    pub(in crate::proxy) fn totals(&self, by_command: bool) -> Totals {
        let sum = |of: fn(&PerCommand) -> &Cell<i64>| self.commands.iter().map(|command| of(command).get()).sum();
        let names = table()
            .all()
            .iter()
            .map(|command| command.name.to_uppercase())
            .chain(["OTHER".to_owned()]);
        let commands = if by_command { self.commands.as_slice() } else { &[] };
        Totals {
            total: sum(|command| &command.calls),
            fails: sum(|command| &command.fails),
            server_errors: self.server_errors.get(),
            commands: commands
                .iter()
                .zip(names)
                .filter(|(figures, _)| figures.calls.get() > 0)
                .map(|(figures, opstr)| OpStat {
                    opstr,
                    calls: figures.calls.get(),
                    usecs: figures.micros.get(),
                    usecs_percall: 0,
                    fails: figures.fails.get(),
                    redis_errtype: figures.errors.get(),
                })
                .collect(),
        }
    }
}

impl Totals {
    /// Adds another worker's.
    pub(in crate::proxy) fn add(&mut self, other: Totals) {
        self.total += other.total;
        self.fails += other.fails;
        self.server_errors += other.server_errors;
        for more in other.commands {
            match self.commands.iter_mut().find(|mine| mine.opstr == more.opstr) {
                Some(mine) => {
                    mine.calls += more.calls;
                    mine.usecs += more.usecs;
                    mine.fails += more.fails;
                    mine.redis_errtype += more.redis_errtype;
                }
                None => self.commands.push(more),
            }
        }
        for command in &mut self.commands {
            command.usecs_percall = command.usecs / command.calls.max(1);
        }
        self.commands.sort_by(|a, b| a.opstr.cmp(&b.opstr));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_workers_are_summed() {
        let (one, other) = (Figures::default(), Figures::default());
        one.record(0, Duration::from_micros(10), Outcome::Answered);
        other.record(0, Duration::from_micros(20), Outcome::Failed);
        other.record(table().other(), Duration::ZERO, Outcome::Error);
        let mut sum = Totals::default();
        sum.add(one.totals(true));
        sum.add(other.totals(true));
        assert_eq!((sum.total, sum.fails, sum.commands.len()), (3, 1, 2));
        assert_eq!((sum.commands[0].usecs_percall, sum.commands[0].fails), (15, 1));
        assert_eq!(
            (sum.commands[1].opstr.as_str(), sum.commands[1].redis_errtype),
            ("OTHER", 1)
        );
        other.reset();
        assert_eq!(other.totals(true), Totals::default());
    }
}
