//! Replacing the primary of a group: Codis' promotion, made safe and resumable.
//!
//! `preparing`: every proxy locks the group's slots; `prepared`: nobody writes any more, the former primary is fenced
//! where it answers, the candidate gets what it lacks and is made the primary; `finished`: that is recorded, the others are
//! given their new primary, and proxies are unlocked. Each state is stored before what belongs to it is done, so that
//! whoever comes next, here or in another dashboard, goes on from there, or undoes it.

pub(crate) mod judge;
pub(crate) mod quiet;
mod servers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::judge::{Way, judge};
use self::servers::{Examined, examine};
use super::error::Error;
use super::observations::unixtime_ms;
use super::rules::epochs::{Expected, Subject};
use super::rules::promotion::{self as rules, Acknowledged, Turnover, Wish};
use super::rules::{self as all_rules, Refusal};
use super::term::Term;
use super::workers::Workers;
use super::{fault, proxies, sentinels, users};
use crate::model::{Group, GroupId, PromoteState, SlotId};

/// How long proxies may take to lock the slots before the promotion is given up.
const LOCK_PATIENCE: Duration = Duration::from_millis(1500);
/// After this time proxies fail what a silent primary was asked, instead of waiting for it.
const DROP_AFTER: Duration = Duration::from_millis(200);
/// How long a promotion waits for another one of the same group.
const TURN: Duration = Duration::from_secs(5);
/// How long a primary may take to tell how it is. One that takes longer counts as silent.
const ASK: Duration = Duration::from_millis(500);
/// The same for one that was silent when it was asked before.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often a server that did not answer a command is asked again.
const TRIES: u32 = 2;
/// How soon proxies that did not lock the slots are told again.
const PAUSE: Duration = Duration::from_millis(30);
/// How soon what was left undone is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How a promotion is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Manner {
    /// Proxies that don't lock the slots in time are shut off at all servers.
    pub(crate) shut_off: bool,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promoted {
    /// How long it took in all.
    pub(crate) took: Duration,
    /// How long writes to the group waited.
    pub(crate) locked: Duration,
    /// How long it took, of that, from the record of the new primary until the proxies were told it.
    pub(crate) unlocking: Duration,
    /// Whether the former primary handed over.
    pub(crate) handed_over: bool,
}

/// Makes a replica the primary of its group. Asking for the same again is harmless.
///
/// # Errors
/// Why not; then everything is as before, or goes on by itself as soon as the store answers again.
pub(crate) async fn promote(term: &Term, wish: &Wish, manner: Manner) -> Result<Promoted, Error> {
    let began = Instant::now();
    let turn = term.promotions.of(&wish.group);
    let Ok(_turn) = tokio::time::timeout(TURN, turn.lock()).await else {
        return Err(Error::TimedOut(format!("group-[{}] is promoting", wish.group)));
    };
    term.wait_swept().await;
    // So that a wish that can't come true disturbs nobody.
    let topology = term.topology();
    let mut times = Times::new(began, wish.at_ms);
    if !rules::begin(&topology, wish)?.is_empty() {
        let mut group = all_rules::existing(&topology, wish.group)?.clone();
        (group.promoting.forced, group.promoting.planned) = (wish.forced, wish.planned);
        let index = group.servers.iter().position(|s| s.server == wish.server).unwrap_or(0);
        let examined = examine(term, &group, ASK).await;
        times.way = Some(judge(&group, index, &examined.asked())?);
        times.examined = Some(examined);
    }
    term.change(|topology| rules::begin(topology, wish)).await?;
    advance(term, wish.group, manner, &mut times).await?;
    let done = times.done();
    tracing::info!(group = %wish.group, primary = %wish.server, took = ?done.took, locked = ?done.locked,
        handed_over = done.handed_over, forced = wish.forced, "the group has a new primary");
    Ok(done)
}

/// Goes on with promotions that were left undone, until the term ends: each by itself, so that one that has to wait long
/// holds no other group up.
pub(crate) async fn run(term: Arc<Term>) {
    let mut workers = Workers::default();
    term.wait_swept().await;
    loop {
        let topology = term.topology();
        for group in topology.groups().filter(|group| !group.promoting.state.is_nothing()) {
            let (term, id) = (Arc::clone(&term), group.id);
            workers.begin(id, async move {
                resume(&term, id).await;
                // So that one that can't be finished is not tried without pause.
                tokio::time::sleep(RETRY).await;
            });
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            ended = workers.ended() => if let Err(error) = ended {
                return term.end(&format!("going on with promotions failed: {error}"));
            }
        }
    }
}

async fn resume(term: &Term, id: GroupId) {
    let turn = term.promotions.of(&id);
    let Ok(_turn) = turn.try_lock() else { return };
    let state = term.topology().group(id).map(|group| group.promoting.state);
    if state.is_none_or(|state| state.is_nothing()) {
        return;
    }
    tracing::info!(group = %id, ?state, "going on with a promotion that was left undone");
    let mut times = Times::new(Instant::now(), unixtime_ms());
    match advance(term, id, Manner::default(), &mut times).await {
        Ok(()) => tracing::info!(group = %id, "the promotion is finished"),
        Err(error) => tracing::warn!(group = %id, %error, "the promotion is not finished"),
    }
}

/// When things happened, and how.
struct Times {
    began: Instant,
    /// The same by the clock on the wall, which is looked at once: it may be set meanwhile.
    began_ms: i64,
    /// How the primary is replaced, as far as that is known.
    way: Option<Way>,
    /// The servers as they were before clients had to wait.
    examined: Option<Examined>,
    locked: Option<Instant>,
    recorded: Option<Instant>,
    unlocked: Option<Instant>,
    handed_over: bool,
}

impl Times {
    fn new(began: Instant, began_ms: i64) -> Self {
        Self {
            began,
            began_ms,
            way: None,
            examined: None,
            locked: None,
            recorded: None,
            unlocked: None,
            handed_over: false,
        }
    }

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64 {
        let took = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_ms.saturating_add(took)
    }

    fn done(&self) -> Promoted {
        let now = Instant::now();
        let unlocked = self.unlocked.unwrap_or(now);
        Promoted {
            took: now.duration_since(self.began),
            unlocking: unlocked.duration_since(self.recorded.unwrap_or(unlocked)),
            locked: unlocked.duration_since(self.locked.unwrap_or(unlocked)),
            handed_over: self.handed_over,
        }
    }
}

/// Does what the stored state asks for until there is nothing left of the promotion.
async fn advance(term: &Term, id: GroupId, manner: Manner, times: &mut Times) -> Result<(), Error> {
    let mut tries = TRIES;
    loop {
        term.catch_up().await?;
        let topology = term.topology();
        let Some(group) = topology.group(id) else { return Ok(()) };
        times.locked.get_or_insert_with(Instant::now);
        let step = match group.promoting.state {
            PromoteState::Nothing => return Ok(()),
            PromoteState::Preparing => lock(term, group, manner, times).await,
            PromoteState::Prepared => lead(term, group, times).await,
            PromoteState::Finished => {
                unlock(term, id, times).await?;
                continue;
            }
        };
        match step {
            Ok(()) => {}
            // Whether it was stored is not known: whoever reads the records next goes on from there.
            Err(error @ (Error::Store(_) | Error::NotActive(_))) => return Err(error),
            // It may have done what it was told, and is asked again.
            Err(Error::Server(error)) if error.is_transient() && tries > 0 => tries -= 1,
            Err(error) => {
                tracing::warn!(group = %id, %error, "the promotion is given up");
                term.change(|topology| rules::undo(topology, id)).await?;
                proxies::tell_all(term, &all_rules::slots::of_group(&term.topology(), id), None).await;
                term.actions_asked.notify_one();
                return Err(error);
            }
        }
    }
}

/// Has every proxy lock the group's slots. What is under way is answered first, unless the primary is silent.
async fn lock(term: &Term, group: &Group, manner: Manner, times: &mut Times) -> Result<(), Error> {
    fault::point("promote.preparing");
    let (id, deadline) = (group.id, Instant::now() + LOCK_PATIENCE);
    let index = usize::try_from(group.promoting.index).unwrap_or(usize::MAX);
    let way = match times.way {
        Some(way) => way,
        None => judge(group, index, &examine(term, group, ASK).await.asked())?,
    };
    times.way = Some(way);
    sentinels::unwatch(term, id).await;
    fault::point("promote.unwatched");
    let drop_after = (way != Way::HandOver).then_some(DROP_AFTER);
    loop {
        let slots = all_rules::slots::of_group(&term.topology(), id);
        let told = proxies::tell_all(term, &slots, drop_after).await;
        fault::point("promote.locked");
        term.check()?;
        let acknowledged: Vec<Acknowledged> = told
            .iter()
            .filter(|told| told.result.is_ok())
            .map(|told| (told.proxy.token.clone(), told.proxy.incarnation.clone()))
            .collect();
        let refusal = match term
            .change(|topology| rules::prepared(topology, id, &acknowledged))
            .await
        {
            Ok(_) => return Ok(()),
            Err(Error::Refused(refusal)) => refusal,
            Err(error) => return Err(error),
        };
        let topology = term.topology();
        let Some(group) = topology
            .group(id)
            .filter(|g| g.promoting.state == PromoteState::Preparing)
        else {
            return Err(refusal.into());
        };
        let missing: Vec<_> = told
            .into_iter()
            .filter(|told| rules::has_vote(&told.proxy, group))
            .filter_map(|told| Some((told.proxy, told.result.err()?)))
            .collect();
        let to_shut_off: Vec<_> = missing
            .iter()
            .filter(|(proxy, _)| manner.shut_off && !proxy.shut_off)
            .collect();
        if !to_shut_off.is_empty() {
            for (proxy, _) in to_shut_off {
                let whatever = Expected::new(Subject::Proxy(proxy.token.clone()), None);
                users::shut_off(term, &proxy.token, &whatever).await?;
            }
        } else if Instant::now() >= deadline {
            let reasons: Vec<String> = missing.iter().map(|(_, error)| error.to_string()).collect();
            return Err(match reasons.is_empty() {
                true => refusal.into(),
                false => Error::Proxy(reasons.join("; ")),
            });
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Makes the candidate the primary. Nobody writes to the group meanwhile.
async fn lead(term: &Term, group: &Group, times: &mut Times) -> Result<(), Error> {
    fault::point("promote.prepared");
    let id = group.id;
    let index = usize::try_from(group.promoting.index).unwrap_or(usize::MAX);
    // One that was silent a moment ago is not waited for as long again.
    let patience = if times.way == Some(Way::FailOver) {
        ASK_AGAIN
    } else {
        ASK
    };
    let mut examined = match examined_before(times, group).await {
        Some(examined) => examined,
        None => examine(term, group, patience).await,
    };
    let asked = examined.asked();
    let way = judge(group, index, &asked)?;
    times.handed_over = way == Way::HandOver;
    let forced = group.promoting.forced;
    let leader = match way {
        Way::HandOver => {
            if let Some(Ok(former)) = asked.first().map(|asked| &asked.answer) {
                // So that whoever comes next knows whose data the candidate has.
                let (history, offset) = (former.history(), former.offset());
                term.change(|topology| rules::going_on_from(topology, id, history, offset))
                    .await?;
            }
            let handed = examined.hand_over(term, index, forced).await;
            if handed.is_err() {
                examined.resume_writes().await;
            }
            handed?
        }
        Way::FailOver => {
            // A process that was started anew lets nobody in. After an import nobody knows whether it was.
            let record = &group.servers[0];
            let started_anew = match (asked.first().map(|asked| &asked.answer), &record.admitted_run_id) {
                (Some(Ok(info)), Some(admitted)) => admitted != info.run_id(),
                _ => false,
            };
            if record.leaky && !started_anew && !forced {
                servers::wait_until_stopped(term, group, index).await?;
                // Should it wake, its fence must not find a replica that still follows it.
                examined.repoint_others(term, index).await?;
            }
            examined.fail_over(term, index).await?
        }
        Way::Recorded => examined.leader(term, index).await?,
    };
    fault::point("promote.commanded");
    let turnover = Turnover {
        at_ms: times.now_ms(),
        handed_over: times.handed_over,
    };
    let recorded = term.change(|topology| rules::finished(topology, id, &leader, turnover));
    let recorded = if way == Way::HandOver {
        tokio::join!(recorded, examined.demote(term, index)).0
    } else {
        recorded.await
    };
    match recorded {
        Ok(_) => Ok(()),
        Err(Error::Refused(Refusal(reason))) => Err(Error::TimedOut(reason)),
        Err(error) => Err(error),
    }
}

/// The servers over the connections from before the lock, which saves clients the time to make them anew; as they are now.
async fn examined_before(times: &mut Times, group: &Group) -> Option<Examined> {
    let examined = times.examined.take().filter(|examined| examined.are_those_of(group))?;
    examined.again(ASK_AGAIN).await.ok()
}

/// Tells the proxies the new primary. Those that don't acknowledge are told again by their polls.
async fn unlock(term: &Term, id: GroupId, times: &mut Times) -> Result<(), Error> {
    times.recorded.get_or_insert_with(Instant::now);
    fault::point("promote.finished");
    let slots: Vec<SlotId> = all_rules::slots::of_group(&term.topology(), id);
    let told = proxies::tell_all(term, &slots, None).await;
    times.unlocked.get_or_insert_with(Instant::now);
    let unlocked_ms = times.now_ms();
    fault::point("promote.unlocked");
    let known = told.iter().all(|told| told.result.is_ok());
    for told in told.into_iter().filter_map(|told| told.result.err()) {
        tracing::warn!(group = %id, error = %told, "a proxy does not know the new primary yet");
    }
    term.change(|topology| rules::done(topology, id, known, unlocked_ms))
        .await?;
    term.actions_asked.notify_one();
    let topology = term.topology();
    if topology
        .group(id)
        .is_some_and(|group| group.servers.iter().any(|server| server.replica_group))
    {
        // Only from now on may its replicas be read from again.
        proxies::tell_all(term, &slots, None).await;
    }
    Ok(())
}
