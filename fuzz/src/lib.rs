//! What has to hold for any bytes at all. Each function is one target of `fuzz/run`, and panics when something does not hold.

mod keys;
mod proxy;
mod replies;
mod requests;

pub use keys::keys;
pub use replies::replies;
pub use requests::requests;

/// A place in the data that is always the same for the same data.
fn somewhere(data: &[u8]) -> usize {
    let sum = data.iter().fold(0_usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(usize::from(*byte))
    });
    sum % (data.len() + 1)
}
