//! What may happen next in a history.

use proptest::prelude::*;

use crate::dashboard::store::fake::Answer;

/// What becomes of one message to a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives, and so does the answer.
    Arrives,
    /// It arrives, and the answer is lost.
    Unheard,
    /// It is lost.
    Lost,
    /// It is given up, and arrives when nobody expects it any more.
    Late,
}

/// What becomes of the messages to each proxy during one piece of work.
pub(super) type Fates = [Fate; 4];

/// All messages arrive.
pub(super) const GOOD: Fates = [Fate::Arrives; 4];

/// One step of a history. Numbers are taken modulo what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The API's calls.
    CreateGroup(u8),
    RemoveGroup(u8),
    AddServer(u8, u8),
    RemoveServer(u8, u8),
    ReplicaGroup(u8, u8, bool),
    AllReplicaGroups(bool),
    AskRole(u8),
    ForgetRole(u8),
    Assign(u8, u8, u8),
    Offline(u8, u8),
    Move(u8, u8, u8),
    MoveSome(u8, u8, u8),
    ForgetMove(u8),
    Rebalance,
    Promote {
        group: u8,
        place: u8,
        forced: bool,
        shut_off: bool,
    },
    Online(u8),
    RemoveProxy(u8, bool),
    ShutOff(u8),
    Resync(u8),
    ResyncAll,
    AddSentinel(u8),
    RemoveSentinel(u8),
    Reload,
    Export,
    Import,
    /// A dashboard goes on with something by one piece; `insist`: what was refused is tried again.
    Work {
        asleep: bool,
        op: u8,
        fates: Fates,
        insist: bool,
    },
    /// The active dashboard looks for what was left undone.
    Look,
    PollProxy(u8),
    PollServer(u8),
    /// Who is in sync is found out and recorded.
    Keep(u8),
    /// The store fails at the change after so many others.
    StoreFails(u8, Answer),
    StoreLate,
    CatchUp,
    /// The dashboard dies, and another one takes over.
    Die,
    /// The dashboard sleeps too long, another one takes over, and the former one wakes whenever it works.
    Sleep,
    /// A push that was given up arrives.
    Arrive(u8),
    RestartProxy(u8),
    FreezeProxy(u8),
    ThawProxy(u8),
    ServerHangs(u8),
    ServerWakes(u8),
    RestartServer(u8),
    /// A server that hangs is cut off long enough for its fence to close.
    Silence(u8),
    /// A slot gets keys, or loses them.
    Keys(u8, bool),
}

fn fates() -> impl Strategy<Value = Fates> {
    let fate = prop_oneof![
        12 => Just(Fate::Arrives),
        1 => Just(Fate::Unheard),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Late),
    ];
    proptest::array::uniform4(fate)
}

fn work(asleep: bool) -> impl Strategy<Value = Step> {
    let insist = proptest::bool::weighted(0.7);
    (any::<u8>(), fates(), insist).prop_map(move |(op, fates, insist)| Step::Work {
        asleep,
        op,
        fates,
        insist,
    })
}

fn rare_call() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    prop_oneof![
        n().prop_map(Step::CreateGroup),
        n().prop_map(Step::RemoveGroup),
        (n(), n()).prop_map(|(g, s)| Step::AddServer(g, s)),
        (n(), n()).prop_map(|(g, s)| Step::RemoveServer(g, s)),
        (n(), n(), any::<bool>()).prop_map(|(g, s, on)| Step::ReplicaGroup(g, s, on)),
        any::<bool>().prop_map(Step::AllReplicaGroups),
        n().prop_map(Step::ForgetRole),
        (n(), 1_u8..4).prop_map(|(slot, count)| Step::Offline(slot, count)),
        (n(), n(), n()).prop_map(|(f, t, c)| Step::MoveSome(f, t, c)),
        n().prop_map(Step::ForgetMove),
        Just(Step::Rebalance),
        Just(Step::ResyncAll),
        n().prop_map(Step::AddSentinel),
        n().prop_map(Step::RemoveSentinel),
        Just(Step::Reload),
        Just(Step::Export),
        Just(Step::Import),
        (n(), any::<bool>()).prop_map(|(slot, full)| Step::Keys(slot, full)),
    ]
}

/// Any step.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let n = any::<u8>;
    let answer = prop_oneof![Just(Answer::MadeButLost), Just(Answer::Late)];
    prop_oneof![
        30 => work(false),
        3 => work(true),
        6 => Just(Step::Look),
        6 => (n(), n(), proptest::bool::weighted(0.2), any::<bool>())
            .prop_map(|(group, place, forced, shut_off)| Step::Promote { group, place, forced, shut_off }),
        2 => (n(), 1_u8..4, n()).prop_map(|(slot, count, group)| Step::Move(slot, count, group)),
        2 => (n(), 1_u8..8, n()).prop_map(|(slot, count, group)| Step::Assign(slot, count, group)),
        3 => n().prop_map(Step::Online),
        2 => n().prop_map(Step::ShutOff),
        1 => (n(), any::<bool>()).prop_map(|(proxy, force)| Step::RemoveProxy(proxy, force)),
        1 => n().prop_map(Step::Resync),
        2 => n().prop_map(Step::AskRole),
        6 => rare_call(),
        5 => n().prop_map(Step::PollProxy),
        3 => n().prop_map(Step::PollServer),
        3 => n().prop_map(Step::Keep),
        3 => (0_u8..6, answer).prop_map(|(before, answer)| Step::StoreFails(before, answer)),
        2 => Just(Step::StoreLate),
        1 => Just(Step::CatchUp),
        2 => Just(Step::Die),
        2 => Just(Step::Sleep),
        4 => n().prop_map(Step::Arrive),
        2 => n().prop_map(Step::RestartProxy),
        2 => n().prop_map(Step::FreezeProxy),
        2 => n().prop_map(Step::ThawProxy),
        3 => n().prop_map(Step::ServerHangs),
        2 => n().prop_map(Step::ServerWakes),
        2 => n().prop_map(Step::RestartServer),
        2 => n().prop_map(Step::Silence),
    ]
}
