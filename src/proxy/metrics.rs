//! The proxy's figures, for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::slots::SlotCounts;
use super::tls::TlsFigures;
use super::worker::{Latencies, Readings};

const PREFIX: &str = "codis_proxy";

type Labels = Vec<(&'static str, String)>;

/// All that figures are made of, at one moment.
#[derive(Debug)]
pub(super) struct Scene {
    /// What workers counted.
    pub(super) readings: Readings,
    /// All clients that ever came.
    pub(super) accepted: i64,
    /// Whether clients are served.
    pub(super) online: bool,
    /// Whether it should get clients.
    pub(super) ready: bool,
    /// How many slots are how.
    pub(super) slots: SlotCounts,
    /// How many of them were pushed.
    pub(super) filled: usize,
    /// Wrong passwords, and tries that were not looked at any more.
    pub(super) wrong_passwords: (u64, u64),
    /// Certificates and handshakes.
    pub(super) tls: TlsFigures,
}

/// Figures that are looked up when they are asked for.
struct Figures<'a> {
    registry: &'a mut Registry,
}

impl Figures<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(value.try_into().unwrap_or(i64::MAX));
        self.registry.register(name, help, gauge);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Gauge>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value.try_into().unwrap_or(i64::MAX));
        }
        self.registry.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64, AtomicU64>::default();
        counter.inc_by(value);
        self.registry.register(name, help, counter);
    }

    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter<u64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }
}

/// What took how long, as one histogram.
#[derive(Debug)]
struct Times(Latencies);

impl Collector for Times {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Time from reading a request to its reply, of those that went to a server";
        let mut metric = encoder.encode_descriptor("request_seconds", help, None, MetricType::Histogram)?;
        let Self(times) = self;
        metric.encode_histogram::<NoLabelSet>(times.seconds(), times.count(), &times.buckets(), None)
    }
}

/// All figures as text.
pub(super) fn text(scene: &Scene) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    let mut figures = Figures {
        registry: &mut registry,
    };
    requests(&mut figures, &scene.readings);
    clients(&mut figures, scene);
    backends(&mut figures, &scene.readings);
    tls(&mut figures, &scene.tls);
    slots(&mut figures, scene);
    registry.register_collector(Box::new(Times(scene.readings.latencies.clone())));
    let mut text = String::new();
    // Writing into a String can't fail.
    let _ = encode(&mut text, &registry);
    text
}

fn requests(figures: &mut Figures<'_>, readings: &Readings) {
    let by_command = |of: fn(&crate::model::OpStat) -> i64| {
        readings
            .totals
            .commands
            .iter()
            .map(move |command| (vec![("command", command.opstr.clone())], of(command) as u64))
    };
    figures.counters("requests", "Requests, by command", by_command(|command| command.calls));
    figures.counters(
        "request_errors",
        "Requests that were answered with an error, by command",
        by_command(|command| command.redis_errtype),
    );
    figures.counters(
        "request_failures",
        "Requests that found no answer, by command",
        by_command(|command| command.fails),
    );
    figures.counters(
        "request_microseconds",
        "Time that requests took together, by command",
        by_command(|command| command.usecs),
    );
    let kinds = readings.errors.by_kind();
    figures.counters(
        "errors",
        "Errors that clients got, by kind",
        kinds.map(|(kind, count)| (vec![("kind", kind.to_owned())], count)),
    );
    figures.gauge(
        "held_clients",
        "Clients whose next request waits for its slot or its server",
        readings.clients.held,
    );
    figures.gauge(
        "requests_under_way",
        "Requests that wait for a reply",
        readings.clients.under_way,
    );
}

fn clients(figures: &mut Figures<'_>, scene: &Scene) {
    let Readings {
        clients,
        from_clients,
        to_clients,
        ..
    } = &scene.readings;
    let accepted = u64::try_from(scene.accepted).unwrap_or(0);
    figures.gauge("clients", "Clients that are connected", clients.clients);
    figures.counter("clients_accepted", "Clients that came, refused ones included", accepted);
    let bytes = [("in", *from_clients), ("out", *to_clients)];
    figures.counters(
        "client_bytes",
        "Bytes read from clients, and taken by them",
        bytes.map(directed),
    );
    figures.gauge(
        "input_buffer_bytes",
        "Bytes of requests that were read and not taken up",
        clients.input,
    );
    figures.gauge(
        "output_buffer_bytes",
        "Bytes of replies that clients have to take",
        clients.output,
    );
    figures.gauge(
        "output_buffer_largest_bytes",
        "The most bytes of replies that one client has to take",
        clients.largest_output,
    );
    let (memory, most) = scene.readings.memory;
    figures.gauge(
        "memory_bytes",
        "Memory that requests and replies take which wait",
        memory,
    );
    figures.gauge(
        "memory_limit_bytes",
        "The most of it that there may be: proxy_max_memory",
        most,
    );
    figures.counter(
        "clients_closed_for_memory",
        "Clients that were closed because what waited for them took memory that others needed",
        scene.readings.closed_for_memory,
    );
    let (wrong, refused) = scene.wrong_passwords;
    figures.counter("wrong_passwords", "Wrong passwords that clients gave", wrong);
    figures.counter(
        "logins_refused",
        "Passwords that were not looked at, because too many wrong ones came from their address",
        refused,
    );
}

fn tls(figures: &mut Figures<'_>, tls: &TlsFigures) {
    let side = |side: &str| vec![("side", side.to_owned())];
    figures.counters(
        "tls_handshakes",
        "TLS handshakes with clients, by what came of them",
        tls.handshakes.iter().map(|(outcome, count)| {
            let labels = vec![("outcome", (*outcome).to_owned())];
            (labels, *count)
        }),
    );
    figures.gauges(
        "tls_files_unusable",
        "Whether the files of certificates can't be used, so that what was in them before still is",
        tls.files.iter().map(|(name, files)| (side(name), files.stale.into())),
    );
    figures.gauges(
        "tls_certificate_not_after_seconds",
        "When the certificate ends that clients or servers are shown, in seconds since 1970",
        tls.files.iter().filter_map(|(name, files)| {
            let end = files.not_after?;
            Some((side(name), u64::try_from(end).unwrap_or(0)))
        }),
    );
}

fn directed((direction, bytes): (&'static str, u64)) -> (Labels, u64) {
    (vec![("direction", direction.to_owned())], bytes)
}

fn backends(figures: &mut Figures<'_>, readings: &Readings) {
    let by_server = |of: fn(&super::backend::BackendFigures) -> u64| {
        let backends = readings.backends.iter();
        backends.map(move |(server, backend)| (vec![("server", server.clone())], of(backend)))
    };
    figures.gauges(
        "backend_connections",
        "Connections that there are to be to a server",
        by_server(|backend| backend.connections),
    );
    figures.gauges(
        "backend_connected",
        "Connections to a server that are open",
        by_server(|backend| backend.connected),
    );
    figures.gauges(
        "backend_under_way",
        "Requests that a server has to answer",
        by_server(|backend| backend.under_way),
    );
    figures.counters(
        "backend_connects",
        "How often a connection to a server was opened",
        by_server(|backend| backend.opened),
    );
    figures.counters(
        "backend_connect_failures",
        "How often a connection to a server could not be opened",
        by_server(|backend| backend.failed),
    );
    figures.counters(
        "backend_losses",
        "How often a connection to a server was lost, or closed because of a time-out",
        by_server(|backend| backend.lost),
    );
    let bytes = readings.backends.iter().flat_map(|(server, backend)| {
        [("in", backend.read), ("out", backend.written)].map(|(direction, bytes)| {
            let labels = vec![("server", server.clone()), ("direction", direction.to_owned())];
            (labels, bytes)
        })
    });
    figures.counters("backend_bytes", "Bytes read from servers, and sent to them", bytes);
}

fn slots(figures: &mut Figures<'_>, scene: &Scene) {
    let SlotCounts { open, locked, offline } = scene.slots;
    let states = [("open", open), ("locked", locked), ("offline", offline)];
    figures.gauges(
        "slots",
        "Slots by state, of 1024: open, locked, offline (without a server)",
        states.map(|(state, count)| (vec![("state", state.to_owned())], count as u64)),
    );
    figures.gauge(
        "slots_filled",
        "Slots that were pushed at all, of 1024",
        scene.filled as u64,
    );
    figures.gauge("online", "Whether clients are served", scene.online.into());
    figures.gauge("ready", "Whether it should get clients, as /readyz", scene.ready.into());
}
