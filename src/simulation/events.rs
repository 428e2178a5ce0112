//! What may go wrong, and when.

/// A tenth of a second.
pub(super) type Tick = u32;

/// Servers at most.
pub(super) const SERVERS: usize = 3;
/// Proxies.
pub(super) const PROXIES: usize = 2;
/// The first proxy's place among all that are connected.
pub(super) const PROXY: usize = SERVERS;
/// The dashboard's.
pub(super) const DASHBOARD: usize = PROXY + PROXIES;
/// The first operator's.
pub(super) const OPERATOR: usize = DASHBOARD + 1;
/// All of them.
pub(super) const NODES: usize = OPERATOR + 2;

/// When the last fault begins at the latest.
const FAULTS: Tick = 100;
/// How long the longest lasts.
const LONGEST: Tick = 80;

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Tick,
    pub(super) lasts: Tick,
    pub(super) fault: Fault,
}

/// What goes wrong. Numbers are places among all nodes, or among the operators where these are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A server's process ends at once, and comes back with what its volume has.
    Restart(usize),
    /// A server's process is told to end, and writes down what it has if it has a volume for that.
    Stop(usize),
    /// A server's node loses its power.
    PowerOff(usize),
    /// A process does nothing; an operator that does not, looks at nothing and goes on later.
    Freeze(usize),
    /// A server's process does nothing until its pod is gone, if it has a volume; otherwise for a while.
    Hang(usize),
    /// An operator, or the dashboard, does nothing, and its clock stands still.
    Suspend(usize),
    /// A server's wall clock jumps by so many seconds.
    Clock(usize, i64),
    /// The wall clock of everybody else does.
    Date(i64),
    /// Two don't reach each other.
    Cut(usize, usize),
    /// What the first sends does not reach the second.
    OneWay(usize, usize),
    /// What one sends reaches nobody.
    Mute(usize),
    /// Nothing reaches one.
    Unheeding(usize),
    /// What a server and a proxy send reaches each other, and nobody else.
    MutePair(usize, usize),
    /// Another group of the cluster has a proxy shut off at all servers.
    Elsewhere(usize),
    /// One reaches nobody.
    Alone(usize),
    /// A server and a proxy reach each other, and nobody else.
    Split(usize, usize),
    /// The dashboard ends; another one goes on from the records.
    Die,
    /// Another operator leads.
    Lead,
    /// What an operator asks for arrives late.
    Late(usize),
    /// No answer reaches an operator.
    Deaf(usize),
    /// What an operator asks for arrives twice.
    Twice(usize),
    /// A replica is behind, though it hears of its primary.
    Lag(usize),
    /// A person changes what servers are made with. That is for good.
    Change,
}

/// Numbers at random, the same for the same seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// One below the bound.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// The faults of a seed, in their order.
pub(super) fn draw(random: &mut Random) -> Vec<Event> {
    let count = 1 + random.below(6);
    let mut events: Vec<Event> = (0..count).map(|_| event(random)).collect();
    events.sort_by_key(|event| event.at);
    events
}

fn event(random: &mut Random) -> Event {
    let server = random.below(SERVERS);
    let node = random.below(DASHBOARD + 1);
    let operator = random.below(2);
    let other = random.below(NODES);
    const JUMPS: [i64; 6] = [-3600, -30, -4, 4, 30, 3600];
    let jump = JUMPS[random.below(JUMPS.len())];
    let fault = match random.below(40) {
        0..=3 => Fault::Restart(server),
        24 => Fault::Stop(server),
        25 | 26 => Fault::Hang(server),
        27 => Fault::Suspend(OPERATOR + operator),
        28 => Fault::Suspend(DASHBOARD),
        29 => Fault::Clock(server, jump),
        30 => Fault::Date(jump),
        31 => Fault::OneWay(server, other),
        32 => Fault::OneWay(other, server),
        33 => Fault::OneWay(OPERATOR + operator, DASHBOARD),
        34 => Fault::Mute(server),
        35 => Fault::Unheeding(server),
        36 => Fault::MutePair(server, PROXY + operator),
        37 => Fault::Elsewhere(operator),
        38 => Fault::OneWay(DASHBOARD, PROXY + operator),
        39 => Fault::OneWay(PROXY + operator, DASHBOARD),
        4 | 5 => Fault::PowerOff(server),
        6..=8 => Fault::Freeze(node),
        9 => Fault::Freeze(OPERATOR + operator),
        10..=12 => Fault::Cut(server, other),
        13 => Fault::Alone(server),
        20 | 21 => Fault::Split(server, PROXY + operator),
        14 => Fault::Die,
        15 => Fault::Lead,
        16 => Fault::Late(operator),
        17 => Fault::Deaf(operator),
        18 => Fault::Twice(operator),
        22 | 23 => Fault::Change,
        _ => Fault::Lag(server),
    };
    let lasts = match random.below(3) {
        0 => 1 + random.below(8) as Tick,
        _ => 1 + random.below(LONGEST as usize) as Tick,
    };
    let at = random.below(FAULTS as usize) as Tick;
    Event { at, lasts, fault }
}
