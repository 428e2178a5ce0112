/// What kind of thing a client can subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::proxy) enum TopicKind {
    /// `SUBSCRIBE`.
    Channel,
    /// `PSUBSCRIBE`.
    Pattern,
    /// `SSUBSCRIBE`.
    Shard,
}

impl TopicKind {
    /// What the command, and the first word of its confirmation, begins with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Channel => "",
            Self::Pattern => "p",
            Self::Shard => "s",
        }
    }

    /// The first word of the confirmation of a subscription, or of its end.
    pub(in crate::proxy) fn word(self, begins: bool) -> String {
        format!("{}{}", self.prefix(), if begins { "subscribe" } else { "unsubscribe" })
    }
}
