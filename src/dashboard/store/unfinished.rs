//! Changes of more records than one transaction takes. The first transaction also writes down all that is to be written,
//! the last one removes that: so whoever reads the records next finishes what was begun, and nobody sees a half.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Lock, Snapshot, Store, StoreError, Write};
use crate::model::{ProductName, store_paths};

/// One record that is to be written; without a value, deleted.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    key: String,
    value: Option<String>,
}

/// The transactions of a change, in their order; one where that is enough.
///
/// # Errors
/// [`StoreError::Corrupt`] when what is to be written can't be written down.
pub(crate) fn transactions(
    product: &ProductName,
    writes: Vec<Write>,
    max: usize,
) -> Result<Vec<Vec<Write>>, StoreError> {
    if writes.len() <= max {
        return Ok(vec![writes]);
    }
    let key = store_paths::unfinished(product);
    let intents: Vec<Intent> = writes
        .iter()
        .map(|write| Intent {
            key: write.key.clone(),
            value: write.value.clone(),
        })
        .collect();
    let text = serde_json::to_string(&intents).map_err(|error| StoreError::Corrupt {
        key: key.clone(),
        reason: error.to_string(),
    })?;
    let begin = Write {
        key,
        value: Some(text),
        expected: 0,
    };
    let mut all = vec![begin];
    all.extend(writes);
    Ok(all
        .chunks(max.saturating_sub(1).max(1))
        .map(<[Write]>::to_vec)
        .collect())
}

/// The removal of what [`transactions`] wrote down first, at this revision.
pub(crate) fn end(product: &ProductName, revision: i64) -> Write {
    Write {
        key: store_paths::unfinished(product),
        value: None,
        expected: revision,
    }
}

/// Finishes what was begun, if anything was, and reads the records.
///
/// # Errors
/// What the store says; [`StoreError::Corrupt`] when what was written down can't be read.
pub(crate) async fn load(
    store: &dyn Store,
    product: &ProductName,
    lock: Lock,
    fence: i64,
) -> Result<Snapshot, StoreError> {
    let snapshot = store.load().await?;
    let Some(writes) = left(product, &snapshot)? else {
        return Ok(snapshot);
    };
    tracing::info!(records = writes.len(), "finishing a change that was left half made");
    for part in writes.chunks(store.max_writes().max(1)) {
        store.commit(lock, fence, part).await?;
    }
    store.load().await
}

/// What is left to be written, the removal of the intents last. `None`: nothing was left unfinished.
fn left(product: &ProductName, snapshot: &Snapshot) -> Result<Option<Vec<Write>>, StoreError> {
    let key = store_paths::unfinished(product);
    let Some(record) = snapshot.records.iter().find(|record| record.key == key) else {
        return Ok(None);
    };
    let intents: Vec<Intent> = serde_json::from_slice(&record.value).map_err(|error| StoreError::Corrupt {
        key,
        reason: error.to_string(),
    })?;
    let known: HashMap<&str, (&[u8], i64)> = snapshot
        .records
        .iter()
        .map(|record| (record.key.as_str(), (record.value.as_slice(), record.revision)))
        .collect();
    let mut writes: Vec<Write> = intents
        .into_iter()
        .filter_map(|intent| {
            let found = known.get(intent.key.as_str());
            let done = found.map(|(value, _)| *value) == intent.value.as_ref().map(String::as_bytes);
            (!done).then(|| Write {
                expected: found.map_or(0, |(_, revision)| *revision),
                key: intent.key,
                value: intent.value,
            })
        })
        .collect();
    writes.push(end(product, record.revision));
    Ok(Some(writes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::store::fake::FakeStore;

    fn product() -> ProductName {
        "demo".parse().unwrap()
    }

    fn write(number: usize, expected: i64) -> Write {
        Write {
            key: format!("/codis3/demo/slots/slot-{number:04}"),
            value: Some(format!("v{number}")),
            expected,
        }
    }

    #[tokio::test]
    async fn a_change_left_after_any_of_its_transactions_is_finished() {
        let writes: Vec<Write> = (0..350).map(|number| write(number, 0)).collect();
        let parts = transactions(&product(), writes, 100).unwrap();
        assert_eq!(parts.len(), 4);
        for made in 0..=parts.len() {
            let store = FakeStore::default();
            for part in &parts[..made] {
                store.commit(store.lock(), 0, part).await.unwrap();
            }
            let snapshot = load(&store, &product(), store.lock(), 0).await.unwrap();
            let expected = if made == 0 { 0 } else { 350 };
            assert_eq!(snapshot.records.len(), expected, "after {made} transactions");
        }
    }

    #[tokio::test]
    async fn a_change_of_few_records_is_one_transaction_and_leaves_nothing() {
        let parts = transactions(&product(), vec![write(1, 0), write(2, 0)], 100).unwrap();
        assert_eq!(parts, [vec![write(1, 0), write(2, 0)]]);
    }
}
