use std::time::Duration;

/// What may be done without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Everything that loses nothing that need not be lost.
    #[default]
    Automatic,
    /// Also a promotion of a copy that may lack acknowledged writes, when nothing better came back in time.
    Aggressive,
    /// Nothing: what would be done is told.
    ReportOnly,
}

/// Whose turn it is to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    /// This instance leads.
    #[default]
    Leader,
    /// Another one leads. What it leaves undone for too long is asked for by this one, as far as that needs no Kubernetes.
    Standby,
}

/// How a cluster's faults are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What may be done.
    pub mode: Mode,
    /// Rounds in a row that a server has to be silent in before it counts as hung.
    pub failure_threshold: u32,
    /// How long these rounds take.
    pub silence: Duration,
    /// How long a server's pod may be of no use before it is restarted.
    pub restart_after: Duration,
    /// How long the node of a server may be lost before its pod is deleted although it may still run; `None`: for ever.
    pub force_delete_after: Option<Duration>,
    /// How long the third failover of a group within [`Self::FLAPPING`] waits; each further one twice as long.
    pub cooldown: Duration,
}

impl Policy {
    /// How long a failover counts against the next ones.
    pub const FLAPPING: Duration = Duration::from_secs(600);
    /// The longest wait of a group that flaps.
    pub const LONGEST_COOLDOWN: Duration = Duration::from_secs(300);
    /// How much longer a standby waits than a leader.
    pub const STANDBY_LAG: Duration = Duration::from_secs(2);
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::Automatic,
            failure_threshold: 3,
            silence: Duration::from_millis(1500),
            restart_after: Duration::from_secs(30),
            force_delete_after: None,
            cooldown: Duration::from_secs(10),
        }
    }
}
