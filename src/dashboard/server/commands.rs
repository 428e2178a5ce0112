//! What a server is asked and told about its data and its role.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::cmd;

use super::{ReplicationSource, Server, ServerError};
use crate::model::{ServerUser, ServerUserKind, SlotId};

/// How many keys are looked through to find slots that hold none.
const MOST_SCANNED: u64 = 100_000;
/// Seconds without word of a replica after which a fenced primary counts it no more.
const FENCE_LAG: &str = "2";

impl Server {
    /// The slots of which it holds keys, in any database.
    ///
    /// # Errors
    /// Also when it is no primary, or holds more keys than are looked through.
    pub(crate) async fn slots_with_keys(&mut self) -> Result<BTreeSet<SlotId>, ServerError> {
        let info = self.info().await?;
        let cant = |reason: String| ServerError::Refused {
            addr: self.addr.clone(),
            command: "SCAN",
            reason,
        };
        if !info.is_primary() {
            return Err(cant("it is not a primary".to_owned()));
        }
        if info.keys() > MOST_SCANNED {
            let keys = info.keys();
            return Err(cant(format!(
                "its {keys} keys are more than the {MOST_SCANNED} that are looked through"
            )));
        }
        let mut slots = BTreeSet::new();
        for database in info.databases() {
            self.query::<()>("SELECT", cmd("SELECT").arg(database)).await?;
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = cmd("SCAN");
                scan.arg(&cursor).arg("COUNT").arg(1000);
                let (next, keys): (String, Vec<Vec<u8>>) = self.query("SCAN", &scan).await?;
                slots.extend(keys.iter().map(|key| SlotId::of_key(key)));
                if next == "0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(slots)
    }

    /// The limit of its memory, in bytes, as text. `None` when it does not tell.
    pub(crate) async fn max_memory(&mut self) -> Result<Option<String>, ServerError> {
        let asked: Result<Vec<String>, _> = self
            .query("CONFIG GET", cmd("CONFIG").arg("GET").arg("maxmemory"))
            .await;
        match asked {
            Ok(pair) => Ok(pair.into_iter().nth(1)),
            Err(ServerError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has a primary refuse writes by itself when no replica was heard of for 2 s; or not any more.
    pub(crate) async fn set_fence(&mut self, on: bool) -> Result<(), ServerError> {
        if on {
            // What is heard of a replica is counted in seconds, and it hears of its primary as often.
            self.configure("CONFIG SET repl-ping-replica-period", "repl-ping-replica-period", "1")
                .await?;
            self.configure("CONFIG SET min-replicas-max-lag", "min-replicas-max-lag", FENCE_LAG)
                .await?;
        }
        let wanted = if on { "1" } else { "0" };
        self.configure("CONFIG SET min-replicas-to-write", "min-replicas-to-write", wanted)
            .await
    }

    async fn configure(&mut self, name: &'static str, key: &str, value: &str) -> Result<(), ServerError> {
        self.query(name, cmd("CONFIG").arg("SET").arg(key).arg(value)).await
    }

    /// Holds back the writes of everybody for at most this time.
    pub(crate) async fn pause_writes(&mut self, time: Duration) -> Result<(), ServerError> {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.query("CLIENT PAUSE", cmd("CLIENT").arg("PAUSE").arg(millis).arg("WRITE"))
            .await
    }

    /// Holds them back no more.
    pub(crate) async fn resume_writes(&mut self) -> Result<(), ServerError> {
        self.query("CLIENT UNPAUSE", cmd("CLIENT").arg("UNPAUSE")).await
    }

    /// Makes it a primary; its data set stays.
    pub(crate) async fn lead(&mut self) -> Result<(), ServerError> {
        self.query("REPLICAOF NO ONE", cmd("REPLICAOF").arg("NO").arg("ONE"))
            .await
    }

    /// Makes it a replica of nothing: it follows nobody and keeps its data. One that the operator prepared serves none of
    /// it then, as after its start; another one is a primary by itself.
    pub(crate) async fn leave(&mut self) -> Result<(), ServerError> {
        if self.prepared {
            self.query("REPLICAOF", cmd("REPLICAOF").arg("127.0.0.1").arg(1)).await
        } else {
            self.lead().await
        }
    }

    /// Tells it as whom to log in at the server that it is to follow.
    pub(crate) async fn set_source_login(&mut self, source: &ReplicationSource) -> Result<(), ServerError> {
        let user = ServerUser::at(ServerUserKind::Replica, &source.addr).filter(|_| source.prepared);
        let mut login = cmd("CONFIG");
        login.arg("SET");
        match &user {
            Some(user) => {
                let password = user.password(self.product_auth.reveal());
                login.arg("masteruser").arg(user.name()).arg("masterauth").arg(password);
            }
            None => {
                self.forget_source_user().await?;
                login.arg("masterauth").arg(self.product_auth.reveal());
            }
        }
        let words = "it does not let masterauth, or masteruser, be changed; its command CONFIG must not be renamed";
        self.query_secret("CONFIG SET masterauth", &login, words).await
    }

    /// The user of a primary that it followed before. A server too old to have users has none to forget.
    async fn forget_source_user(&mut self) -> Result<(), ServerError> {
        let mut command = cmd("CONFIG");
        command.arg("SET").arg("masteruser").arg("");
        match self.query::<()>("CONFIG SET masteruser", &command).await {
            Err(ServerError::Refused { .. }) => Ok(()),
            answer => answer,
        }
    }

    /// Makes it a replica. The address is given as an IP, because the server would resolve a name on its main thread.
    pub(crate) async fn follow(&mut self, source: &ReplicationSource) -> Result<(), ServerError> {
        let (ip, port) = (source.peer.ip().to_string(), source.peer.port());
        self.query("REPLICAOF", cmd("REPLICAOF").arg(ip).arg(port)).await
    }

    /// Ends the connections of all clients but replicas and this one, so that they notice that the role changed.
    pub(crate) async fn disconnect_clients(&mut self) -> Result<(), ServerError> {
        let mut command = cmd("CLIENT");
        command.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
        self.query::<redis::Value>("CLIENT KILL", &command).await.map(drop)
    }
}
