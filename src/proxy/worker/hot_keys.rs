use std::collections::HashMap;

/// Keys that are counted at a time.
const MAX_KEYS: usize = 256;
/// Bytes of a key that are kept.
const MAX_KEY: usize = 256;

/// The keys that are asked for most, in bounded memory: one that is new takes the place, and the count, of the one that
/// was seen least ("space saving"). A key seen more often than one in [`MAX_KEYS`] is always among them; counts are never
/// too low.
#[derive(Debug, Default)]
pub(super) struct HotKeys(HashMap<Vec<u8>, u64>);

impl HotKeys {
    /// A key was asked for.
    pub(super) fn count(&mut self, key: &[u8]) {
        let key = &key[..key.len().min(MAX_KEY)];
        if let Some(count) = self.0.get_mut(key) {
            *count += 1;
            return;
        }
        let mut before = 0;
        if self.0.len() >= MAX_KEYS
            && let Some((least, count)) = self.0.iter().min_by_key(|(_, count)| **count)
        {
            before = *count;
            let least = least.clone();
            self.0.remove(&least);
        }
        self.0.insert(key.to_vec(), before + 1);
    }

    /// All that are counted.
    pub(super) fn counts(&self) -> Vec<(Vec<u8>, u64)> {
        self.0.iter().map(|(key, count)| (key.clone(), *count)).collect()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hottest_key_is_found_among_many(picks in proptest::collection::vec(0_u32..2000, 500..2000)) {
            let mut keys = HotKeys::default();
            let mut hot = 0;
            for (place, pick) in picks.iter().enumerate() {
                keys.count(format!("cold{pick}").as_bytes());
                if place % 20 == 0 {
                    keys.count(b"hot");
                    hot += 1;
                }
            }
            let counts = keys.counts();
            prop_assert!(counts.len() <= MAX_KEYS);
            let found = counts.iter().find(|(key, _)| key == b"hot").map_or(0, |(_, count)| *count);
            prop_assert!(found >= hot, "{found} of {hot}");
        }
    }
}
