//! What every store does, tried with a real etcd and with files.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tempfile::TempDir;

use self::support::etcd::Etcd;
use self::support::eventually;
use super::{Acquired, EtcdStore, FilesystemStore, Lock, Store, StoreError, Write};
use crate::dashboard::coordinator::EtcdSettings;
use crate::dashboard::server::{Lookup, SystemLookup};
use crate::model::{ProductName, Topom, store_paths};

#[path = "../../../tests/support"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "these tests use a part of it")]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]
mod support {
    pub(super) mod etcd;
    mod process;
    pub(super) use process::*;
}

/// Where the records of a test are. Each store that is opened on it is as another process.
enum Ground {
    Etcd(Box<Etcd>),
    Files(TempDir),
}

fn product() -> ProductName {
    "demo".parse().unwrap()
}

fn key(name: &str) -> String {
    format!("/codis3/demo/group/{name}")
}

fn topom(addr: &str) -> Topom {
    Topom {
        token: "t".to_owned(),
        // No two starts are at the same time.
        start_time: format!("{:?}", Instant::now()),
        admin_addr: addr.to_owned(),
        product_name: "demo".to_owned(),
        pid: 1,
        pwd: String::new(),
        sys: String::new(),
    }
}

fn write(name: &str, value: Option<&str>, expected: i64) -> Write {
    Write {
        key: key(name),
        value: value.map(str::to_owned),
        expected,
    }
}

impl Ground {
    fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Etcd(etcd) => {
                let settings = EtcdSettings {
                    endpoints: vec![etcd.endpoint().parse().unwrap()],
                    auth: None,
                    tls: None,
                };
                Arc::new(EtcdStore::new(settings, product(), Arc::new(SystemLookup)))
            }
            Self::Files(folder) => Arc::new(FilesystemStore::new(folder.path().to_owned(), product())),
        }
    }

    fn file(folder: &TempDir, key: &str) -> PathBuf {
        folder.path().join("data").join(key.trim_start_matches('/'))
    }

    /// As a person does it, past all stores.
    async fn write_by_hand(&self, key: &str, value: Option<&str>) {
        match (self, value) {
            (Self::Etcd(etcd), Some(value)) => drop(etcd.client().await.put(key, value, None).await.unwrap()),
            (Self::Etcd(etcd), None) => drop(etcd.client().await.delete(key, None).await.unwrap()),
            (Self::Files(folder), Some(value)) => {
                let path = Self::file(folder, key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, value).unwrap();
            }
            (Self::Files(folder), None) => std::fs::remove_file(Self::file(folder, key)).unwrap(),
        }
    }

    async fn read_by_hand(&self, key: &str) -> Option<String> {
        match self {
            Self::Etcd(etcd) => etcd.get(key).await,
            Self::Files(folder) => std::fs::read_to_string(Self::file(folder, key)).ok(),
        }
    }
}

async fn taken(store: &dyn Store, addr: &str) -> Lock {
    eventually("the lock is free", Duration::from_secs(8), async || {
        match store.acquire(&topom(addr)).await.unwrap() {
            Acquired::Ours(lock) => Some(lock),
            Acquired::Held { revision, .. } => {
                store.wait_changed(Some(revision)).await.unwrap();
                None
            }
        }
    })
    .await
}

/// The records that are not the lock and not the owner: name, value, revision.
async fn records(store: &dyn Store) -> Vec<(String, String, i64)> {
    let snapshot = store.load().await.unwrap();
    assert!(snapshot.records.is_sorted_by_key(|record| record.key.clone()));
    let groups = snapshot.records.into_iter().filter_map(|record| {
        let name = record.key.strip_prefix("/codis3/demo/group/")?.to_owned();
        Some((name, String::from_utf8(record.value).unwrap(), record.revision))
    });
    groups.collect()
}

fn record(name: &str, value: &str, revision: i64) -> (String, String, i64) {
    (name.to_owned(), value.to_owned(), revision)
}

async fn one_has_the_lock_and_others_are_told_who(ground: Ground) {
    let (one, two) = (ground.open(), ground.open());
    let lock = taken(&*one, "one:1").await;
    for _ in 0..2 {
        let Acquired::Held { by, revision } = two.acquire(&topom("two:2")).await.unwrap() else {
            panic!("two have it");
        };
        assert_eq!(by, "one:1");
        assert!(revision >= lock.revision);
    }
    let value = ground.read_by_hand(&store_paths::lock(&product())).await.unwrap();
    assert!(
        value.contains("\n    \"admin_addr\": \"one:1\""),
        "as Codis keeps it: {value}"
    );
    let later = one.renew(lock).await.unwrap();
    assert!(later >= lock.valid_until);
    one.release(lock).await.unwrap();
    assert_eq!(ground.read_by_hand(&store_paths::lock(&product())).await, None);
    let next = taken(&*two, "two:2").await;
    assert!(next.revision > lock.revision);
    assert_eq!(one.renew(lock).await, Err(StoreError::LockLost));
    one.release(lock).await.unwrap();
    two.renew(next).await.unwrap();
}

async fn one_that_waits_is_told_when_the_lock_is_given_up(ground: Ground) {
    let (one, two) = (ground.open(), ground.open());
    let lock = taken(&*one, "one:1").await;
    let Acquired::Held { revision, .. } = two.acquire(&topom("two:2")).await.unwrap() else {
        panic!("two have it");
    };
    let began = Instant::now();
    two.wait_changed(Some(revision)).await.unwrap();
    assert!(
        began.elapsed() > Duration::from_millis(500),
        "nothing happened, {:?}",
        began.elapsed()
    );
    let freed = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        one.release(lock).await.unwrap();
        Instant::now()
    };
    let ((), freed) = tokio::join!(async { two.wait_changed(Some(revision)).await.unwrap() }, freed);
    assert!(freed.elapsed() < Duration::from_millis(500), "{:?}", freed.elapsed());
    // What happened since that revision, before anybody waited, is told at once.
    let began = Instant::now();
    two.wait_changed(Some(revision)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
}

async fn a_lock_taken_away_by_hand_is_noticed_and_nothing_is_written_under_it(ground: Ground) {
    let (one, two) = (ground.open(), ground.open());
    let lock = taken(&*one, "one:1").await;
    let watching = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ground.write_by_hand(&store_paths::lock(&product()), None).await;
        Instant::now()
    };
    let ((), removed) = tokio::join!(async { one.wait_changed(None).await.unwrap() }, watching);
    assert!(removed.elapsed() < Duration::from_millis(500));
    assert_eq!(one.renew(lock).await, Err(StoreError::LockLost));
    let late = [write("a", Some("late"), 0)];
    assert_eq!(one.commit(lock, lock.revision, &late).await, Err(StoreError::LockLost));
    let next = taken(&*two, "two:2").await;
    assert_eq!(one.renew(lock).await, Err(StoreError::LockLost));
    assert_eq!(one.fence(lock).await, Err(StoreError::LockLost));
    assert_eq!(one.commit(lock, lock.revision, &late).await, Err(StoreError::LockLost));
    assert_eq!(one.commit(lock, next.revision, &late).await, Err(StoreError::LockLost));
    one.release(lock).await.unwrap();
    two.renew(next).await.unwrap();
    assert_eq!(records(&*two).await, []);
}

async fn a_lock_that_is_removed_can_be_taken_while_its_holder_lives(ground: Ground) {
    let (one, two) = (ground.open(), ground.open());
    two.remove_lock().await.unwrap();
    let lock = taken(&*one, "one:1").await;
    two.remove_lock().await.unwrap();
    let Acquired::Ours(next) = two.acquire(&topom("two:2")).await.unwrap() else {
        panic!("it was removed");
    };
    assert_eq!(one.renew(lock).await, Err(StoreError::LockLost));
    let late = [write("a", Some("late"), 0)];
    assert_eq!(one.commit(lock, lock.revision, &late).await, Err(StoreError::LockLost));
    two.commit(next, next.revision, &[write("a", Some("two"), 0)])
        .await
        .unwrap();
}

async fn a_lock_whose_holder_is_gone_is_free(ground: Ground) {
    let (one, two) = (ground.open(), ground.open());
    let lock = taken(&*one, "one:1").await;
    drop(one);
    let next = taken(&*two, "two:2").await;
    assert!(next.revision > lock.revision);
}

async fn changes_are_made_under_the_expected_revisions_only_and_all_or_none(ground: Ground) {
    let store = ground.open();
    let lock = taken(&*store, "one:1").await;
    let commit = async |writes: &[Write]| store.commit(lock, lock.revision, writes).await;
    let first = commit(&[write("a", Some("1"), 0), write("b", Some("1"), 0)])
        .await
        .unwrap();
    assert!(first > lock.revision);
    let both = [record("a", "1", first), record("b", "1", first)];
    assert_eq!(records(&*store).await, both);
    for wrong in [
        [write("a", Some("2"), first), write("b", Some("2"), 0)],
        [write("a", Some("2"), first), write("b", None, first + 1)],
        [write("c", Some("2"), 0), write("a", None, 0)],
        [write("c", Some("2"), first), write("a", Some("2"), first)],
    ] {
        assert_eq!(commit(&wrong).await, Err(StoreError::Conflict));
        assert_eq!(records(&*store).await, both);
    }
    let second = commit(&[
        write("a", Some("2"), first),
        write("b", None, first),
        write("none", None, 0),
    ])
    .await
    .unwrap();
    assert!(second > first);
    assert_eq!(records(&*store).await, [record("a", "2", second)]);
    assert_eq!(ground.read_by_hand(&key("a")).await.as_deref(), Some("2"));
    assert_eq!(ground.read_by_hand(&key("b")).await, None);
    let third = commit(&[write("b", Some("3"), 0)]).await.unwrap();
    assert_eq!(
        records(&*store).await,
        [record("a", "2", second), record("b", "3", third)]
    );
}

async fn a_change_that_names_an_earlier_fence_is_refused_however_late(ground: Ground) {
    let store = ground.open();
    let lock = taken(&*store, "one:1").await;
    let late = [write("a", Some("late"), 0)];
    let fence = store.fence(lock).await.unwrap();
    assert!(fence > lock.revision);
    assert_eq!(
        store.commit(lock, lock.revision, &late).await,
        Err(StoreError::Conflict)
    );
    let next = store.fence(lock).await.unwrap();
    assert!(next > fence);
    assert_eq!(store.commit(lock, fence, &late).await, Err(StoreError::Conflict));
    store.renew(lock).await.unwrap();
    let made = store.commit(lock, next, &late).await.unwrap();
    assert_eq!(records(&*store).await, [record("a", "late", made)]);
}

async fn what_somebody_else_writes_is_a_conflict_until_it_is_read(ground: Ground) {
    let store = ground.open();
    ground.write_by_hand(&key("before"), Some("0")).await;
    let lock = taken(&*store, "one:1").await;
    let commit = async |write: Write| store.commit(lock, lock.revision, &[write]).await;
    let before = records(&*store).await[0].2;
    assert!(before > 0);
    let first = commit(write("a", Some("1"), 0)).await.unwrap();
    ground.write_by_hand(&key("a"), Some("by hand")).await;
    assert_eq!(commit(write("a", Some("2"), first)).await, Err(StoreError::Conflict));
    let found = records(&*store).await;
    let by_hand = found[0].2;
    assert!(by_hand > first);
    assert_eq!(found, [record("a", "by hand", by_hand), record("before", "0", before)]);
    assert_eq!(records(&*store).await, found, "it is read twice alike");
    ground.write_by_hand(&key("before"), None).await;
    assert_eq!(
        commit(write("before", Some("1"), before)).await,
        Err(StoreError::Conflict)
    );
    let made = commit(write("a", Some("2"), by_hand)).await.unwrap();
    assert_eq!(records(&*store).await, [record("a", "2", made)]);
}

async fn revisions_never_go_back(ground: Ground) {
    let mut last = 0;
    for round in 0..3 {
        let store = ground.open();
        let lock = taken(&*store, "one:1").await;
        assert!(lock.revision > last, "{round}");
        let expected = records(&*store).await.first().map_or(0, |(.., revision)| *revision);
        assert!(expected <= last);
        last = store
            .commit(lock, lock.revision, &[write("a", Some(&round.to_string()), expected)])
            .await
            .unwrap();
        assert_eq!(store.load().await.unwrap().revision, last);
        store.release(lock).await.unwrap();
    }
}

async fn a_product_is_claimed_once(ground: Ground) {
    let store = ground.open();
    store.claim(None).await.unwrap();
    store.claim(Some("uid-1")).await.unwrap();
    store.claim(Some("uid-1")).await.unwrap();
    for other in [Some("uid-2"), None] {
        let error = ground.open().claim(other).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Owned { owner, .. } if owner == "uid-1"),
            "{error}"
        );
    }
    let owner = ground.read_by_hand(&store_paths::owner(&product())).await;
    assert_eq!(owner.as_deref(), Some("uid-1"));
}

async fn records_of_other_products_are_not_seen(ground: Ground) {
    for other in [
        "/codis3/demo2/group/a",
        "/codis3/dem/group/a",
        "/codis3/demo.eu/group/a",
    ] {
        ground.write_by_hand(other, Some("{}")).await;
    }
    let store = ground.open();
    assert_eq!(store.load().await.unwrap().records, []);
}

async fn many_records_are_read_and_written(ground: Ground) {
    let store = ground.open();
    let lock = taken(&*store, "one:1").await;
    let names: Vec<_> = (0..1024).map(|i| format!("{i:04}")).collect();
    let writes: Vec<_> = names.iter().map(|name| write(name, Some("{}"), 0)).collect();
    for part in writes.chunks(store.max_writes()) {
        store.commit(lock, lock.revision, part).await.unwrap();
    }
    let found: Vec<_> = records(&*store).await.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(found, names);
}

macro_rules! for_each_store {
    ($($behaviour:ident),* $(,)?) => {
        mod in_etcd {
            use super::*;
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(Ground::Etcd(Box::new(Etcd::start().await))).await;
            })*
        }

        mod in_files {
            use super::*;
            $(#[tokio::test]
            async fn $behaviour() {
                super::$behaviour(Ground::Files(TempDir::new().unwrap())).await;
            })*
        }
    };
}

for_each_store!(
    one_has_the_lock_and_others_are_told_who,
    one_that_waits_is_told_when_the_lock_is_given_up,
    a_lock_taken_away_by_hand_is_noticed_and_nothing_is_written_under_it,
    a_lock_that_is_removed_can_be_taken_while_its_holder_lives,
    a_lock_whose_holder_is_gone_is_free,
    changes_are_made_under_the_expected_revisions_only_and_all_or_none,
    a_change_that_names_an_earlier_fence_is_refused_however_late,
    what_somebody_else_writes_is_a_conflict_until_it_is_read,
    revisions_never_go_back,
    a_product_is_claimed_once,
    records_of_other_products_are_not_seen,
    many_records_are_read_and_written,
);

/// A name service that dies.
#[derive(Default)]
struct Mortal(AtomicBool);

impl Lookup for Mortal {
    fn lookup(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        if self.0.load(Ordering::Relaxed) {
            return Box::pin(std::future::pending());
        }
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }
}

#[tokio::test]
async fn etcd_is_found_again_while_no_name_can_be_resolved() {
    let etcd = Etcd::start().await;
    let port = etcd.endpoint().rsplit_once(':').unwrap().1.to_owned();
    let settings = EtcdSettings {
        // The first is one that nobody listens at, the others are the same under two names.
        endpoints: ["gone.svc:1", &format!("one.svc:{port}"), &format!("two.svc:{port}")]
            .map(|addr| addr.parse().unwrap())
            .to_vec(),
        auth: None,
        tls: None,
    };
    let lookup = Arc::new(Mortal::default());
    let store = EtcdStore::new(settings, product(), lookup.clone());
    let lock = eventually("the lock is taken", Duration::from_secs(8), async || {
        match store.acquire(&topom("one:1")).await {
            Ok(Acquired::Ours(lock)) => Some(lock),
            _ => None,
        }
    })
    .await;
    // All of its members' addresses are known from now on.
    store.renew(lock).await.unwrap();
    lookup.0.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        store.lose_connection();
        eventually("the lock is renewed", Duration::from_secs(3), async || {
            store.renew(lock).await.ok()
        })
        .await;
    }
}
