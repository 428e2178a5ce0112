use std::fs;

use tempfile::TempDir;

use super::*;

fn store(root: &TempDir) -> FilesystemStore {
    FilesystemStore::new(root.path().to_owned(), "demo".parse().unwrap())
}

fn topom(addr: &str) -> Topom {
    serde_json::from_value(serde_json::json!({
        "token": "t", "start_time": addr, "admin_addr": addr, "product_name": "demo", "pid": 1, "pwd": "", "sys": ""
    }))
    .unwrap()
}

async fn take(store: &FilesystemStore) -> Lock {
    match store.acquire(&topom("one:1")).await.unwrap() {
        Acquired::Ours(lock) => lock,
        held => panic!("{held:?}"),
    }
}

fn write(name: &str, value: Option<&str>, expected: i64) -> Write {
    Write {
        key: format!("/codis3/demo/{name}"),
        value: value.map(str::to_owned),
        expected,
    }
}

/// Everything below the folder of the records, but for the lock.
async fn records(store: &FilesystemStore) -> Vec<(String, String)> {
    let found = store.load().await.unwrap().records.into_iter();
    found
        .map(|record| (record.key, String::from_utf8(record.value).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_change_is_made_as_a_whole_or_not_at_all_wherever_its_process_dies() {
    let (mut kept, mut made) = (0, 0);
    for life in 0.. {
        let root = TempDir::new().unwrap();
        let victim = store(&root);
        let lock = take(&victim).await;
        let old = [write("a", Some("old"), 0), write("b", Some("old"), 0)];
        let revision = victim.commit(lock, lock.revision, &old).await.unwrap();
        let before = records(&victim).await;
        let new = [
            write("a", Some("new"), revision),
            write("b", None, revision),
            write("c", Some("new"), 0),
        ];
        *victim.shared.files.life.lock().unwrap() = Some(life);
        let outcome = victim.commit(lock, lock.revision, &new).await;
        drop(victim);

        let successor = store(&root);
        let next = take(&successor).await;
        assert!(next.revision > revision, "{life}");
        let now = records(&successor).await;
        let after = ["a", "c"].map(|name| (format!("/codis3/demo/{name}"), "new".to_owned()));
        if now == before {
            kept += 1;
            assert!(outcome.as_ref().is_err_and(StoreError::is_unknown_outcome), "{life}");
        } else {
            made += 1;
            assert_eq!(now, after, "{life}");
        }
        // It goes on from either.
        let expected = successor.load().await.unwrap().records[0].revision;
        let next_change = [write("a", Some("next"), expected)];
        let revision = successor.commit(next, next.revision, &next_change).await.unwrap();
        assert!(revision > next.revision);
        if outcome.is_ok() {
            break;
        }
    }
    // The state, three records, the state: twice as many steps, each a place to die in, and one life to the end.
    assert_eq!((kept, made), (2, 8));
}

#[tokio::test]
async fn a_lock_whose_taker_died_half_way_is_free() {
    for life in 0.. {
        let root = TempDir::new().unwrap();
        let victim = store(&root);
        *victim.shared.files.life.lock().unwrap() = Some(life);
        let outcome = victim.acquire(&topom("one:1")).await;
        drop(victim);
        take(&store(&root)).await;
        if outcome.is_ok() {
            assert!(life > 0);
            break;
        }
    }
}

#[tokio::test]
async fn a_lock_that_was_taken_without_an_answer_does_not_keep_its_taker_waiting() {
    let root = TempDir::new().unwrap();
    let store = store(&root);
    let lost = take(&store).await;
    let known = take(&store).await;
    assert_eq!(store.renew(lost).await, Err(StoreError::LockLost));
    store.renew(known).await.unwrap();
}

#[tokio::test]
async fn the_lock_of_a_dashboard_of_codis_is_left_alone_until_it_is_removed() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("data/codis3/demo/topom");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, serde_json::to_string(&topom("codis:1")).unwrap()).unwrap();
    let store = store(&root);
    let Acquired::Held { by, revision } = store.acquire(&topom("one:1")).await.unwrap() else {
        panic!("it was taken");
    };
    assert!(by.starts_with("codis:1, ") && by.ends_with("--remove-lock"), "{by}");
    let began = Instant::now();
    store.wait_changed(Some(revision)).await.unwrap();
    assert!(began.elapsed() >= WATCH_TIME, "{:?}", began.elapsed());
    store.load().await.unwrap();
    assert!(matches!(
        store.acquire(&topom("one:1")).await,
        Ok(Acquired::Held { .. })
    ));
    store.remove_lock().await.unwrap();
    take(&store).await;
}

#[tokio::test]
async fn another_file_in_the_locks_place_ends_the_lock() {
    let root = TempDir::new().unwrap();
    let store = store(&root);
    let lock = take(&store).await;
    let file = root.path().join("data/codis3/demo/topom");
    let copy = root.path().join("copy");
    fs::copy(&file, &copy).unwrap();
    fs::rename(&copy, &file).unwrap();
    assert_eq!(store.renew(lock).await, Err(StoreError::LockLost));
}

#[tokio::test]
async fn a_call_that_does_not_get_its_turn_says_so() {
    let root = TempDir::new().unwrap();
    let store = store(&root);
    let _turn = store.shared.files.turn().unwrap();
    let began = Instant::now();
    let error = store.load().await.unwrap_err();
    assert!(error.is_unknown_outcome() && began.elapsed() < CALL_TIMEOUT, "{error}");
    assert!(
        error.to_string().contains("data.lck") && error.to_string().contains("another process"),
        "{error}"
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let store = FilesystemStore::new(file.join("root"), "demo".parse().unwrap());
    let error = store.load().await.unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_is_named() {
    let root = TempDir::new().unwrap();
    take(&store(&root)).await;
    fs::write(root.path().join("revisions/demo.json"), "{").unwrap();
    let error = store(&root).load().await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("revisions/demo.json"), "{error}");
}

#[tokio::test]
async fn an_emptied_folder_begins_after_all_that_was_said() {
    let root = TempDir::new().unwrap();
    let before = take(&store(&root)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    for folder in fs::read_dir(root.path()).unwrap().flatten() {
        let removed = match folder.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(folder.path()),
            false => fs::remove_file(folder.path()),
        };
        removed.unwrap();
    }
    let after = take(&store(&root)).await;
    assert!(after.revision > before.revision);
}

#[tokio::test]
async fn a_holder_that_gives_no_sign_loses_the_lock_and_one_that_renews_it_does_not() {
    let root = TempDir::new().unwrap();
    let (holder, waiting) = (store(&root), store(&root));
    let lock = take(&holder).await;
    let ask = async || waiting.acquire(&topom("two:1")).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < SILENCE + Duration::from_secs(1) {
        holder.renew(lock).await.unwrap();
        let asked = ask().await;
        assert!(
            matches!(&asked, Acquired::Held { by, .. } if by == "one:1"),
            "{asked:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let until = holder.renew(lock).await.unwrap();
    let next = loop {
        match ask().await {
            Acquired::Ours(next) => break next,
            Acquired::Held { revision, .. } => waiting.wait_changed(Some(revision)).await.unwrap(),
        }
    };
    assert!(Instant::now() > until, "it could still act");
    assert_eq!(holder.renew(lock).await, Err(StoreError::LockLost));
    let change = [write("a", Some("late"), 0)];
    assert_eq!(
        holder.commit(lock, lock.revision, &change).await,
        Err(StoreError::LockLost)
    );
    waiting.commit(next, next.revision, &change).await.unwrap();
    // Giving up what it has not disturbs nobody.
    holder.release(lock).await.unwrap();
    waiting.renew(next).await.unwrap();
}
