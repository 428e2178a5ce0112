//! What a promotion asks of the group's servers.

use std::time::{Duration, Instant};

use futures::future::join_all;

use super::judge::Asked;
use super::quiet::{is_certain, quiet};
use crate::dashboard::error::Error;
use crate::dashboard::fences::Durability;
use crate::dashboard::rules::Refusal;
use crate::dashboard::rules::promotion::Leader;
use crate::dashboard::server::{Server, ServerError};
use crate::dashboard::term::Term;
use crate::dashboard::users;
use crate::model::{Group, HostPort, Info};

/// How long a replica may take to tell how it is.
const ASK: Duration = Duration::from_millis(500);
/// How long the candidate may take to get all that its primary has, once nobody writes any more.
const CATCH_UP: Duration = Duration::from_millis(500);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(1);
/// How long the primary holds back what others than proxies write, should nobody come back to it.
const PAUSE: Duration = Duration::from_secs(3);
/// How long the former primary may take to follow. It is asked again by the sync-action that is recorded.
const DEMOTE: Duration = Duration::from_millis(300);
/// How often it is looked whether it did.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long is waited for that.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// All servers of a group, asked just now, in the order of the group.
pub(super) struct Examined {
    servers: Vec<(HostPort, Answer)>,
}

/// A connection to a server, and what it said; or why there is none.
type Answer = Result<(Server, Info), String>;

/// Asks all servers of a group at the same time; `patience` is for the primary.
pub(super) async fn examine(term: &Term, group: &Group, patience: Duration) -> Examined {
    let asked = group.servers.iter().enumerate().map(|(place, record)| async move {
        let limit = if place == 0 { patience } else { ASK };
        let answer = match tokio::time::timeout(limit, ask(term, &record.server)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        };
        (record.server.clone(), answer)
    });
    Examined {
        servers: join_all(asked).await,
    }
}

async fn ask(term: &Term, name: &HostPort) -> Result<(Server, Info), ServerError> {
    let mut server = term.connect(name).await?;
    let info = server.info().await?;
    Ok((server, info))
}

impl Examined {
    /// What they said.
    pub(super) fn asked(&self) -> Vec<Asked> {
        let asked = self.servers.iter().map(|(server, answer)| Asked {
            server: server.clone(),
            answer: match answer {
                Ok((_, info)) => Ok(info.clone()),
                Err(reason) => Err(reason.clone()),
            },
        });
        asked.collect()
    }

    /// Whether they are the servers of this group, in its order.
    pub(super) fn are_those_of(&self, group: &Group) -> bool {
        let names = self.servers.iter().map(|(name, _)| name);
        names.eq(group.servers.iter().map(|record| &record.server))
    }

    /// Asks the same servers again, over the connections that there are.
    ///
    /// # Errors
    /// When one does not answer in time, or did not before.
    pub(super) async fn again(self, patience: Duration) -> Result<Self, String> {
        let asked = self.servers.into_iter().map(|(name, answer)| async move {
            let (mut server, _) = answer?;
            let info = tokio::time::timeout(patience, server.info()).await;
            let info = info
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            Ok((name, Ok((server, info))))
        });
        let servers: Result<_, String> = join_all(asked).await.into_iter().collect();
        Ok(Self { servers: servers? })
    }

    /// The candidate gets all that its primary has, then leads. The former primary is still to be told to follow it.
    pub(super) async fn hand_over(&mut self, term: &Term, index: usize, forced: bool) -> Result<Leader, Error> {
        let [former, candidate] = self.two(index)?;
        // Clients wait meanwhile: both are told at the same time.
        let paused = async {
            users::let_in(term, former.0, former.1).await?;
            // Proxies hold the writes back already; this stops everybody else. An old server does not know it.
            match term.while_active(former.1.pause_writes(PAUSE)).await? {
                Ok(()) | Err(ServerError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            Ok::<_, Error>(former.1.info().await?.offset())
        };
        let (wanted, prepared) = tokio::join!(paused, prepare_leader(term, candidate.0, candidate.1));
        let wanted = wanted?;
        prepared?;
        let began = Instant::now();
        loop {
            let have = candidate.1.info().await?.offset();
            if have >= wanted {
                break;
            }
            if began.elapsed() > CATCH_UP {
                if forced {
                    break;
                }
                let reason = format!(
                    "server-[{}] can't be promoted: after {CATCH_UP:?} it still lacks {} bytes of what {} has",
                    candidate.0,
                    wanted - have,
                    former.0
                );
                return Err(Refusal(reason).into());
            }
            tokio::time::sleep(LOOK).await;
        }
        lead(term, candidate.1).await
    }

    /// The former primary follows the candidate, which leads already.
    pub(super) async fn demote(&mut self, term: &Term, index: usize) {
        let Ok([former, candidate]) = self.two(index) else {
            return;
        };
        match tokio::time::timeout(DEMOTE, demote(term, former.1, candidate.1)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(server = %former.0, %error, "the former primary does not follow yet"),
            Err(_) => tracing::warn!(server = %former.0, "the former primary does not answer any more"),
        }
    }

    /// The candidate leads with what it has.
    pub(super) async fn fail_over(&mut self, term: &Term, index: usize) -> Result<Leader, Error> {
        let (name, server) = self.server(index)?;
        prepare_leader(term, name, server).await?;
        lead(term, server).await
    }

    /// All others but the primary follow the candidate, who is about to lead.
    pub(super) async fn repoint_others(&mut self, term: &Term, index: usize) -> Result<(), Error> {
        let source = self.server(index)?.1.source();
        let others = self.servers.iter_mut().enumerate();
        let others = others.filter(|(place, _)| *place != 0 && *place != index);
        let told = others.map(|(_, (name, answer))| {
            let source = &source;
            async move {
                let Ok((server, _)) = answer else {
                    return Err(Error::TimedOut(format!("server-[{name}] does not answer any more")));
                };
                term.while_active(server.set_source_login(source)).await??;
                Ok(term.while_active(server.follow(source)).await??)
            }
        });
        join_all(told).await.into_iter().collect()
    }

    /// What a candidate that leads already says of itself.
    pub(super) async fn leader(&mut self, term: &Term, index: usize) -> Result<Leader, Error> {
        let (_, server) = self.server(index)?;
        describe(term, server).await
    }

    /// Nothing came of it: writes go on where they went.
    pub(super) async fn resume_writes(&mut self) {
        if let Ok((_, server)) = self.server(0) {
            // It goes on by itself after a while.
            let _ = tokio::time::timeout(ASK, server.resume_writes()).await;
        }
    }

    fn server(&mut self, index: usize) -> Result<(&HostPort, &mut Server), Error> {
        match self.servers.get_mut(index) {
            Some((name, Ok((server, _)))) => Ok((name, server)),
            _ => Err(Error::TimedOut(format!(
                "the server at {index} does not answer any more"
            ))),
        }
    }

    /// The primary and the candidate.
    fn two(&mut self, index: usize) -> Result<[(&HostPort, &mut Server); 2], Error> {
        let found = self.servers.get_disjoint_mut([0, index]).ok();
        match found {
            Some([(former, Ok((primary, _))), (name, Ok((candidate, _)))]) => {
                Ok([(former, primary), (name, candidate)])
            }
            _ => Err(Error::TimedOut(
                "a server of the group does not answer any more".to_owned(),
            )),
        }
    }
}

/// What a server has to know before it leads.
async fn prepare_leader(term: &Term, name: &HostPort, server: &mut Server) -> Result<(), Error> {
    users::let_in(term, name, server).await?;
    // It may have been a primary before, and would refuse writes until it has a replica.
    let wanted = term.means.durability == Durability::Required;
    match term.while_active(server.set_fence(wanted)).await? {
        Ok(()) | Err(ServerError::Refused { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn lead(term: &Term, server: &mut Server) -> Result<Leader, Error> {
    term.while_active(server.lead()).await??;
    if !server.is_prepared() {
        // As in Codis: clients that came to read have to notice.
        term.while_active(server.disconnect_clients()).await??;
    }
    describe(term, server).await
}

async fn describe(term: &Term, server: &mut Server) -> Result<Leader, Error> {
    let info = server.info().await?;
    if !info.is_primary() {
        return Err(Error::TimedOut(
            "the candidate was told to lead, and does not".to_owned(),
        ));
    }
    Ok(Leader {
        run_id: info.run_id().to_owned(),
        prepared: server.is_prepared(),
        history: info.history().to_owned(),
        offset: info.offset(),
        fenced: term.means.durability == Durability::Required,
    })
}

async fn demote(term: &Term, former: &mut Server, leader: &Server) -> Result<(), Error> {
    let source = leader.source();
    term.while_active(former.set_source_login(&source)).await??;
    term.while_active(former.follow(&source)).await??;
    term.while_active(former.set_fence(false)).await??;
    if !former.is_prepared() {
        term.while_active(former.disconnect_clients()).await??;
    }
    term.while_active(former.resume_writes()).await??;
    Ok(())
}

/// Waits until a primary that nobody reaches has certainly stopped by itself: it was fenced, and every other server of the
/// group heard nothing of it for long enough.
///
/// # Errors
/// When that can't be told, or does not happen in time.
pub(super) async fn wait_until_stopped(term: &Term, group: &Group, index: usize) -> Result<(), Error> {
    let primary = &group.servers[0].server;
    let unsure = |reason: String| {
        Error::from(Refusal(format!(
            "group-[{}]: the primary {primary} does not answer, and may still let in a proxy that was shut off; {reason}",
            group.id
        )))
    };
    if !group.fenced {
        return Err(unsure(
            "it does not stop by itself; end it, or force the promotion".to_owned(),
        ));
    }
    let began = Instant::now();
    loop {
        let asked = examine(term, group, LOOK_AGAIN).await.asked();
        let seen = term.observations.seen();
        let heard_at = |server: &HostPort| seen.get(server).and_then(|seen| seen.heard_at);
        let mut not_yet = None;
        for (place, other) in asked.iter().enumerate().skip(1) {
            match &other.answer {
                Ok(info) if is_certain(info, heard_at(&other.server), Instant::now()) => {}
                Ok(info) => {
                    not_yet = Some(format!("{} heard of it {} s ago", other.server, quiet(info)));
                }
                Err(reason) if place == index => return Err(unsure(reason.clone())),
                Err(reason) => {
                    not_yet = Some(format!("{} can't tell whether it hears of it: {reason}", other.server));
                }
            }
        }
        match not_yet {
            None => return Ok(()),
            Some(reason) if began.elapsed() > STOP_PATIENCE => return Err(unsure(reason)),
            Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
