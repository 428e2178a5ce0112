use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio_rustls::rustls::pki_types::CertificateDer;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The tag of the version, which only the first version leaves out.
const VERSION: u8 = 0xa0;

/// When a certificate ends, in seconds since 1970. `None` when it is not written as it should be, which whoever checks
/// it will say.
pub(crate) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut rest, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after)) = expect(rest, VERSION) {
        rest = after;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = expect(rest, tag)?;
    }
    let (validity, _) = expect(rest, SEQUENCE)?;
    let (_, _, end) = element(validity)?;
    let (tag, end, _) = element(end)?;
    let text = std::str::from_utf8(end).ok()?;
    let text = match tag {
        // Two digits of the year: 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let time = TimeZone::UTC.to_timestamp(time).ok()?;
    Some(time.as_second())
}

/// The content of the element at the beginning, if it is of this kind, and what follows it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag and content of the element at the beginning, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match first {
        0..0x80 => (usize::from(first), rest),
        _ => {
            // So many bytes hold the length.
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let joined = len.iter().try_fold(0_usize, |sum, byte| {
                sum.checked_mul(256)?.checked_add(usize::from(*byte))
            });
            (joined?, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["name".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 7, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn end_of_a_certificate_is_found() {
        // The form of the date changes with 2050.
        for (year, seconds) in [(2030, 1_909_094_400), (2061, 2_887_401_600)] {
            assert_eq!(not_after(&certificate(year)), Some(seconds), "{year}");
        }
    }

    proptest! {
        #[test]
        fn what_is_no_certificate_has_no_end(cut in 0_usize..200, noise in proptest::collection::vec(any::<u8>(), 0..60)) {
            let whole = certificate(2030);
            prop_assert_eq!(not_after(&CertificateDer::from(&whole[..cut.min(60)])), None);
            not_after(&CertificateDer::from(noise));
        }
    }
}
