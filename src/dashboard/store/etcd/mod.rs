pub(super) mod tls;
mod words;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, Error, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

use self::words::{is_lease_gone, is_refusal, words};
use super::{Acquired, Later, Lock, Record, Snapshot, Store, StoreError, Write};
use crate::dashboard::coordinator::EtcdSettings;
use crate::dashboard::server::{Lookup, Resolver, Standing};
use crate::model::{ProductName, Topom, store_paths};

/// How long the lock outlives a holder that vanished.
const LOCK_TTL: Duration = Duration::from_secs(3);
/// A holder stops acting this long before its lease can have ended.
const MARGIN: Duration = Duration::from_millis(600);
/// The longest call. Less than the lock lasts, so that one lost call does not cost the lock.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one watch of the lock lasts; whoever waits asks again afterwards.
const WATCH_TIME: Duration = Duration::from_secs(1);
/// Operations, or comparisons, that etcd takes in one transaction by default.
const MAX_TXN_OPS: usize = 128;
/// Comparisons that every write makes besides one for each record: whose the lock is, and the fence.
const GUARDS: usize = 2;
/// Records read by one call.
const PAGE: i64 = 500;

/// The coordinator in etcd. The keys are those of Codis 3.2, the lock is a key with a lease.
pub(crate) struct EtcdStore {
    settings: EtcdSettings,
    product: ProductName,
    /// The library's own way to addresses waits seconds for a name server that is lost, and remembers none.
    resolver: Resolver,
    connection: Mutex<Connection>,
}

/// One endpoint at a time: a balanced channel would go on sending every n-th call to a member that hangs.
#[derive(Default)]
struct Connection {
    endpoint: usize,
    client: Option<Client>,
    generation: u64,
}

impl EtcdStore {
    /// A store for this product. Connects when it is first used, to the addresses that this tells.
    pub(crate) fn new(settings: EtcdSettings, product: ProductName, lookup: Arc<dyn Lookup>) -> Self {
        Self {
            settings,
            product,
            resolver: Resolver::new(lookup),
            connection: Mutex::default(),
        }
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As if the member that is talked to had just vanished.
    #[cfg(test)]
    pub(super) fn lose_connection(&self) {
        let generation = self.connection().generation;
        self.give_up(generation);
    }

    fn current(&self) -> (usize, u64, Option<Client>) {
        let connection = self.connection();
        (
            connection.endpoint % self.settings.endpoints.len(),
            connection.generation,
            connection.client.clone(),
        )
    }

    /// After a failure the next call goes to the next endpoint, over a new connection.
    fn give_up(&self, generation: u64) {
        let mut connection = self.connection();
        if connection.generation == generation {
            self.resolver
                .forget(&self.settings.endpoints[connection.endpoint % self.settings.endpoints.len()]);
            *connection = Connection {
                endpoint: connection.endpoint.wrapping_add(1),
                client: None,
                generation: generation + 1,
            };
        }
    }

    async fn client(&self, endpoint: usize, generation: u64, known: Option<Client>) -> Result<Client, Error> {
        if let Some(client) = known {
            return Ok(client);
        }
        let endpoint = &self.settings.endpoints[endpoint];
        let found = self.resolver.resolve(endpoint, Standing::Member).await;
        let addr = found.map_err(|error| Error::IoError(std::io::Error::other(error)))?;
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CALL_TIMEOUT)
            .with_keep_alive(Duration::from_secs(2), CALL_TIMEOUT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((user, password)) = &self.settings.auth {
            options = options.with_user(user, password.reveal());
        }
        let scheme = match &self.settings.tls {
            // The files are read for each connection: whoever renews them in place needs no restart. A connection that the
            // client makes anew by itself shows the old certificate; once that is refused, the call fails and ends here.
            Some(tls) => {
                let files = tls::options(tls).await;
                let tls = files.map_err(|error| Error::InvalidArgs(error.to_string()))?;
                options = options.with_tls(tls.domain_name(endpoint.host()));
                "https"
            }
            None => "http",
        };
        let client = Client::connect([format!("{scheme}://{addr}")], Some(options)).await?;
        let mut connection = self.connection();
        if connection.generation == generation {
            connection.client = Some(client.clone());
        }
        Ok(client)
    }

    /// One bounded call at the endpoint in use.
    async fn call<T, F, Fut>(&self, doing: &str, call: F) -> Result<T, StoreError>
    where
        F: FnOnce(Client) -> Fut + Send,
        Fut: Future<Output = Result<T, Error>> + Send,
    {
        self.call_within(CALL_TIMEOUT, doing, call).await
    }

    async fn call_within<T, F, Fut>(&self, limit: Duration, doing: &str, call: F) -> Result<T, StoreError>
    where
        F: FnOnce(Client) -> Fut + Send,
        Fut: Future<Output = Result<T, Error>> + Send,
    {
        let (endpoint, generation, known) = self.current();
        let store = || format!("etcd at {}", self.settings.endpoints[endpoint]);
        let work = async { call(self.client(endpoint, generation, known).await?).await };
        let error = match tokio::time::timeout(limit, work).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if is_refusal(&error) => {
                return Err(StoreError::Refused {
                    doing: doing.to_owned(),
                    store: store(),
                    reason: words(&error),
                });
            }
            Ok(Err(error)) => words(&error),
            Err(_) => format!("no answer within {} s", limit.as_secs_f32()),
        };
        self.give_up(generation);
        Err(StoreError::Unreachable {
            doing: doing.to_owned(),
            store: store(),
            reason: error,
        })
    }

    fn lock_is_ours(&self, lock: Lock) -> Compare {
        Compare::create_revision(store_paths::lock(&self.product), CompareOp::Equal, lock.revision)
    }

    async fn claim_for(&self, owner: Option<&str>) -> Result<(), StoreError> {
        let key = store_paths::owner(&self.product);
        let doing = format!("claiming the product {}", self.product);
        if let Some(owner) = owner {
            let free = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
            let txn = Txn::new().when([free]).and_then([TxnOp::put(key.clone(), owner, None)]);
            self.call(&doing, async move |mut client: Client| client.txn(txn).await)
                .await?;
        }
        let found = self
            .call(&doing, async move |mut client: Client| client.get(key, None).await)
            .await?;
        match found
            .kvs()
            .first()
            .map(|kv| String::from_utf8_lossy(kv.value()).into_owned())
        {
            Some(found) if Some(found.as_str()) != owner => Err(StoreError::Owned {
                product: self.product.to_string(),
                owner: found,
                claimant: owner.unwrap_or("a dashboard without --owner-id").to_owned(),
            }),
            _ => Ok(()),
        }
    }

    async fn try_acquire(&self, topom: &Topom) -> Result<Acquired, StoreError> {
        let key = store_paths::lock(&self.product);
        let doing = format!("taking the lock {key}");
        let asked = key.clone();
        let found = self
            .call(&doing, async move |mut client: Client| client.get(asked, None).await)
            .await?;
        if let Some(kv) = found.kvs().first() {
            return Ok(held(kv, revision_of(found.header())));
        }
        let asked_at = Instant::now();
        let ttl = i64::try_from(LOCK_TTL.as_secs()).unwrap_or(i64::MAX);
        let lease = self
            .call(&doing, async move |mut client: Client| {
                client.lease_grant(ttl, None).await
            })
            .await?
            .id();
        let value = json(topom, &key)?;
        let options = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), value, Some(options))])
            .or_else([TxnOp::get(key, None)]);
        let answer = self
            .call(&doing, async move |mut client: Client| client.txn(txn).await)
            .await;
        if let Ok(answer) = &answer
            && answer.succeeded()
        {
            let revision = revision_of(answer.header());
            return Ok(Acquired::Ours(Lock {
                revision,
                lease,
                valid_until: asked_at + LOCK_TTL - MARGIN,
            }));
        }
        // Not ours, or unknown: without its lease the key, if it was made, goes at once.
        let _ = self
            .call("dropping a lease", async move |mut client: Client| {
                client.lease_revoke(lease).await
            })
            .await;
        let answer = answer?;
        let revision = revision_of(answer.header());
        let holder = answer.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(get) => get.kvs().first().map(|kv| held(kv, revision)),
            _ => None,
        });
        Ok(holder.unwrap_or_else(|| Acquired::Held {
            by: "unknown".to_owned(),
            revision,
        }))
    }

    async fn renew_lock(&self, lock: Lock) -> Result<Instant, StoreError> {
        self.resolver.refresh(&self.settings.endpoints);
        let key = store_paths::lock(&self.product);
        let doing = format!("keeping the lock {key}");
        let asked_at = Instant::now();
        let renewal = self.call(&doing, async move |mut client: Client| {
            client.lease_keep_alive(lock.lease).await
        });
        // Only an end of the lease ends the lock. A member that refuses for another reason may be asked again, or another one.
        if let Err(error) = renewal.await {
            return Err(match error {
                StoreError::Refused { reason, .. } if is_lease_gone(&reason) => StoreError::LockLost,
                other => other,
            });
        }
        let found = self
            .call(&doing, async move |mut client: Client| client.get(key, None).await)
            .await?;
        match found.kvs().first() {
            Some(kv) if kv.create_revision() == lock.revision => Ok(asked_at + LOCK_TTL - MARGIN),
            _ => Err(StoreError::LockLost),
        }
    }

    async fn delete_lock(&self) -> Result<(), StoreError> {
        let key = store_paths::lock(&self.product);
        let doing = format!("removing the lock {key}");
        self.call(&doing, async move |mut client: Client| client.delete(key, None).await)
            .await?;
        Ok(())
    }

    async fn release_lock(&self, lock: Lock) -> Result<(), StoreError> {
        let key = store_paths::lock(&self.product);
        let doing = format!("releasing the lock {key}");
        let txn = Txn::new()
            .when([self.lock_is_ours(lock)])
            .and_then([TxnOp::delete(key, None)]);
        self.call(&doing, async move |mut client: Client| client.txn(txn).await)
            .await?;
        // The lease ends by itself when this fails.
        let _ = self
            .call(&doing, async move |mut client: Client| {
                client.lease_revoke(lock.lease).await
            })
            .await;
        Ok(())
    }

    async fn watch_lock(&self, since: Option<i64>) -> Result<(), StoreError> {
        self.resolver.refresh(&self.settings.endpoints);
        let key = store_paths::lock(&self.product);
        let doing = format!("watching the lock {key}");
        // A stream that says nothing is no failure: it ends quietly, and whoever waits looks at the key again.
        self.call_within(WATCH_TIME + CALL_TIMEOUT, &doing, async move |mut client: Client| {
            let options = since.map(|revision| WatchOptions::new().with_start_revision(revision + 1));
            let watched = async {
                let mut stream = client.watch(key, options).await?;
                while let Some(message) = stream.message().await? {
                    if !message.events().is_empty() {
                        return Ok(());
                    }
                    if message.canceled() {
                        break;
                    }
                }
                // No watch, perhaps because that revision was compacted away: whoever waits looks again, but not at once.
                tokio::time::sleep(WATCH_TIME / 4).await;
                Ok(())
            };
            tokio::time::timeout(WATCH_TIME, watched).await.unwrap_or(Ok(()))
        })
        .await
    }

    async fn load_all(&self) -> Result<Snapshot, StoreError> {
        let prefix = format!("{}/", store_paths::product(&self.product));
        let doing = format!("reading {prefix}");
        let end = after_prefix(&prefix);
        let (mut records, mut from, mut revision) = (Vec::new(), prefix.clone().into_bytes(), 0);
        loop {
            let (start, end) = (from.clone(), end.clone());
            let options = GetOptions::new()
                .with_range(end)
                .with_limit(PAGE)
                .with_revision(revision);
            let page = self
                .call(&doing, async move |mut client: Client| {
                    client.get(start, Some(options)).await
                })
                .await?;
            if revision == 0 {
                revision = revision_of(page.header());
            }
            for kv in page.kvs() {
                records.push(Record {
                    key: String::from_utf8_lossy(kv.key()).into_owned(),
                    value: kv.value().to_vec(),
                    revision: kv.mod_revision(),
                });
            }
            match page.kvs().last() {
                Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
                _ => return Ok(Snapshot { records, revision }),
            }
        }
    }

    /// Writes the lock as it is: its revision is the fence.
    async fn raise_fence(&self, lock: Lock) -> Result<i64, StoreError> {
        let key = store_paths::lock(&self.product);
        let doing = format!("fencing off earlier changes at {key}");
        let same = PutOptions::new().with_ignore_value().with_ignore_lease();
        let txn = Txn::new()
            .when([self.lock_is_ours(lock)])
            .and_then([TxnOp::put(key, "", Some(same))]);
        let answer = self
            .call(&doing, async move |mut client: Client| client.txn(txn).await)
            .await?;
        if answer.succeeded() {
            Ok(revision_of(answer.header()))
        } else {
            Err(StoreError::LockLost)
        }
    }

    async fn write_all(&self, lock: Lock, fence: i64, writes: &[Write]) -> Result<i64, StoreError> {
        let doing = match writes {
            [one] => format!("writing {}", one.key),
            many => format!("writing {} records of {}", many.len(), self.product),
        };
        let unfenced = Compare::mod_revision(store_paths::lock(&self.product), CompareOp::Equal, fence);
        let mut compares = vec![self.lock_is_ours(lock), unfenced];
        compares.extend(
            writes
                .iter()
                .map(|w| Compare::mod_revision(w.key.clone(), CompareOp::Equal, w.expected)),
        );
        let changes: Vec<TxnOp> = writes
            .iter()
            .map(|write| match &write.value {
                Some(value) => TxnOp::put(write.key.clone(), value.clone(), None),
                None => TxnOp::delete(write.key.clone(), None),
            })
            .collect();
        let lock_key = store_paths::lock(&self.product);
        let txn = Txn::new()
            .when(compares)
            .and_then(changes)
            .or_else([TxnOp::get(lock_key, None)]);
        let answer = self
            .call(&doing, async move |mut client: Client| client.txn(txn).await)
            .await?;
        if answer.succeeded() {
            return Ok(revision_of(answer.header()));
        }
        let still_ours = answer.op_responses().iter().any(|response| match response {
            TxnOpResponse::Get(get) => get
                .kvs()
                .first()
                .is_some_and(|kv| kv.create_revision() == lock.revision),
            _ => false,
        });
        Err(if still_ours {
            StoreError::Conflict
        } else {
            StoreError::LockLost
        })
    }
}

impl Store for EtcdStore {
    fn max_writes(&self) -> usize {
        MAX_TXN_OPS - GUARDS
    }

    fn claim<'a>(&'a self, owner: Option<&'a str>) -> Later<'a, ()> {
        Box::pin(self.claim_for(owner))
    }

    fn acquire<'a>(&'a self, topom: &'a Topom) -> Later<'a, Acquired> {
        Box::pin(self.try_acquire(topom))
    }

    fn wait_changed(&self, since: Option<i64>) -> Later<'_, ()> {
        Box::pin(self.watch_lock(since))
    }

    fn renew(&self, lock: Lock) -> Later<'_, Instant> {
        Box::pin(self.renew_lock(lock))
    }

    fn release(&self, lock: Lock) -> Later<'_, ()> {
        Box::pin(self.release_lock(lock))
    }

    fn remove_lock(&self) -> Later<'_, ()> {
        Box::pin(self.delete_lock())
    }

    fn load(&self) -> Later<'_, Snapshot> {
        Box::pin(self.load_all())
    }

    fn fence(&self, lock: Lock) -> Later<'_, i64> {
        Box::pin(self.raise_fence(lock))
    }

    fn commit<'a>(&'a self, lock: Lock, fence: i64, writes: &'a [Write]) -> Later<'a, i64> {
        Box::pin(self.write_all(lock, fence, writes))
    }
}

fn revision_of(header: Option<&etcd_client::ResponseHeader>) -> i64 {
    header.map_or(0, etcd_client::ResponseHeader::revision)
}

fn held(kv: &etcd_client::KeyValue, revision: i64) -> Acquired {
    let by = match serde_json::from_slice::<Topom>(kv.value()) {
        Ok(topom) => topom.admin_addr,
        Err(_) => "unknown (the lock's value is not a dashboard's)".to_owned(),
    };
    Acquired::Held { by, revision }
}

fn json(topom: &Topom, key: &str) -> Result<String, StoreError> {
    crate::dashboard::topology::to_json(topom).map_err(|reason| StoreError::Corrupt {
        key: key.to_owned(),
        reason: reason.to_string(),
    })
}

/// The first key behind all that begin with this prefix (which ends in a slash).
fn after_prefix(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_does_not_reach_into_other_products() {
        let end = after_prefix("/codis3/shop/");
        assert!(b"/codis3/shop/slots/slot-0001".as_slice() < end.as_slice());
        assert!(
            b"/codis3/shop2/topom".as_slice() > end.as_slice()
                && b"/codis3/shop.eu/topom".as_slice() < b"/codis3/shop/".as_slice()
        );
    }
}
