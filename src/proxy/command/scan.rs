use crate::proxy::resp::decimal;

/// How many bits of a cursor tell the server; the others are that server's own cursor.
const PLACE_BITS: u32 = 20;
/// Of these, how many tell servers of one group apart. There is only one in a map that is right.
const WITHIN_BITS: u32 = 6;
/// Servers' cursors are as large as their tables at most: far below.
const LARGEST: u64 = 1 << (63 - PLACE_BITS);

/// Where a server stands among all: by its group, so that it stays there when other groups come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScanPlace(u64);

/// How far a `SCAN` over all servers has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScanCursor {
    /// The server.
    pub(crate) place: ScanPlace,
    /// Its own cursor.
    pub(crate) cursor: u64,
}

impl ScanPlace {
    /// The places of servers of these groups, which are in order.
    pub(crate) fn all(groups: impl IntoIterator<Item = i64>) -> Vec<Self> {
        let mut places: Vec<Self> = Vec::new();
        for group in groups {
            let first = u64::try_from(group)
                .unwrap_or(0)
                .min((1 << (PLACE_BITS - WITHIN_BITS)) - 1)
                << WITHIN_BITS;
            let next = places.last().map_or(0, |last| last.0 + 1);
            places.push(Self(first.max(next)));
        }
        places
    }
}

impl ScanCursor {
    /// Reads what a client gives. Which of `places` (in order) it is at: a place that is gone is passed over. `None` when
    /// nothing is left to be scanned.
    ///
    /// # Errors
    /// When it is no cursor.
    pub(crate) fn read(text: &[u8], places: &[ScanPlace]) -> Result<Option<(usize, u64)>, BadCursor> {
        let number = decimal(text)
            .and_then(|number| u64::try_from(number).ok())
            .ok_or(BadCursor)?;
        let place = ScanPlace(number & ((1 << PLACE_BITS) - 1));
        let cursor = number >> PLACE_BITS;
        Ok(places
            .iter()
            .position(|other| *other >= place)
            .map(|at| (at, if places[at] == place { cursor } else { 0 })))
    }

    /// The number that a client is given; `None` when the server's cursor is too large.
    pub(crate) fn number(self) -> Option<u64> {
        (self.cursor < LARGEST).then_some(self.cursor << PLACE_BITS | self.place.0)
    }
}

/// Redis' text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ERR invalid cursor")]
pub(crate) struct BadCursor;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(number: u64, groups: &[i64]) -> Option<(usize, u64)> {
        ScanCursor::read(number.to_string().as_bytes(), &ScanPlace::all(groups.iter().copied())).unwrap()
    }

    #[test]
    fn scan_begins_at_the_first_group_and_passes_over_groups_that_are_gone() {
        assert_eq!(read(0, &[3, 5]), Some((0, 0)));
        let place = ScanPlace::all([3, 5])[1];
        let number = ScanCursor { place, cursor: 77 }.number().unwrap();
        assert_eq!(read(number, &[3, 5]), Some((1, 77)));
        assert_eq!(read(number, &[3, 4, 5, 6]), Some((2, 77)));
        assert_eq!(read(number, &[3, 6]), Some((1, 0)));
        assert_eq!(read(number, &[3]), None);
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "x", "-1", "99999999999999999999999"] {
            assert_eq!(ScanCursor::read(text.as_bytes(), &[]), Err(BadCursor), "{text}");
        }
        let place = ScanPlace::all([1])[0];
        assert_eq!(ScanCursor { place, cursor: LARGEST }.number(), None);
    }

    proptest! {
        #[test]
        fn cursors_read_back(groups in proptest::collection::vec(0_i64..10_000, 1..40), at: prop::sample::Index, cursor in 0..LARGEST) {
            let mut groups = groups;
            groups.sort_unstable();
            let places = ScanPlace::all(groups.iter().copied());
            let at = at.index(places.len());
            let number = ScanCursor { place: places[at], cursor }.number().unwrap();
            prop_assert!(i64::try_from(number).is_ok());
            prop_assert_eq!(read(number, &groups), Some((at, cursor)));
        }
    }
}
