/// The slot of a key without a hash tag, or of a hash tag: CRC32 (IEEE) modulo 1024, written out here so that tests do not lean
/// on the code under test.
pub fn slot_of(tag: &str) -> u32 {
    let crc = !tag.bytes().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    });
    crc % 1024
}

#[cfg(test)]
mod tests {
    use super::slot_of;

    #[test]
    fn known_sum_gives_its_slot() {
        // The check value of this CRC is CBF43926.
        assert_eq!(slot_of("123456789"), 0xCBF4_3926 % 1024);
        assert_eq!(slot_of(""), 0);
    }
}
