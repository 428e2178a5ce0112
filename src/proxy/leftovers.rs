//! What a server sent and nobody could use yet: the beginning of a reply whose end did not come.

/// Capacity that an empty buffer keeps; what grew beyond is given back.
const KEEP: usize = 256 << 10;

/// The first `used` bytes were used.
pub(super) fn drop_used(input: &mut Vec<u8>, used: usize) {
    if used == input.len() && input.capacity() > KEEP {
        *input = Vec::new();
    } else {
        input.drain(..used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_used_stays_and_an_empty_buffer_does_not_stay_large() {
        let mut input = vec![b'x'; 2 * KEEP];
        drop_used(&mut input, KEEP);
        assert_eq!(input.len(), KEEP);
        drop_used(&mut input, KEEP);
        assert_eq!((input.len(), input.capacity()), (0, 0));
        input.extend_from_slice(b"abc");
        drop_used(&mut input, 3);
        assert!(input.is_empty() && input.capacity() > 0);
    }
}
