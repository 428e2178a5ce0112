//! Sizes and durations as Codis writes them in TOML and JSON.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is neither a size nor a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {text:?}; write it as {example}")]
pub struct FormatError {
    /// `size` or `duration`.
    pub what: &'static str,
    /// What was given.
    pub text: String,
    /// What would have been right.
    pub example: &'static str,
}

/// A number of bytes, written `32mb` (`b k kb m mb g gb t tb p pb`, powers of 1024, fractions allowed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

/// A duration, written with Go's units (`1m30s`, `500ms`); a bare number means seconds, zero is written `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration(pub Duration);

const SIZE_UNITS: [(&str, u64); 6] = [
    ("pb", 1 << 50),
    ("tb", 1 << 40),
    ("gb", 1 << 30),
    ("mb", 1 << 20),
    ("kb", 1 << 10),
    ("b", 1),
];

impl FromStr for ByteSize {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let fail = || FormatError {
            what: "size",
            text: text.to_owned(),
            example: "\"32mb\" or a number of bytes",
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let factor = match unit {
            "" => 1,
            _ => {
                SIZE_UNITS
                    .iter()
                    .find(|(name, _)| *name == unit || name[..1] == *unit)
                    .ok_or_else(fail)?
                    .1
            }
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(fail);
        }
        let bytes = number.parse::<f64>().map_err(|_| fail())? * factor as f64;
        if bytes.is_finite() && bytes < u64::MAX as f64 {
            Ok(Self(bytes as u64))
        } else {
            Err(fail())
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
        {
            Some((_, 1)) | None => write!(f, "{}", self.0),
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
        }
    }
}

impl FromStr for GoDuration {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        let fail = || FormatError {
            what: "duration",
            text: text.to_owned(),
            example: "\"30s\", \"500ms\" or a number of seconds",
        };
        let seconds = |s: f64| Duration::try_from_secs_f64(s).map_err(|_| fail());
        if let Ok(bare) = text.parse::<u64>() {
            return Ok(Self(Duration::from_secs(bare)));
        }
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Ok(Self(seconds(text.parse::<f64>().map_err(|_| fail())?)?));
        }
        let (mut rest, mut total) = (text, Duration::ZERO);
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
            let (number, tail) = rest.split_at(end);
            let unit_end = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            let factor = match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(fail()),
            };
            let part = seconds(number.parse::<f64>().map_err(|_| fail())? * factor)?;
            total = total.checked_add(part).ok_or_else(fail)?;
            rest = tail;
        }
        if text.is_empty() { Err(fail()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let whole = [
            ("h", 3_600_000_000_000_u128),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
        ];
        match whole.iter().find(|(_, unit)| nanos != 0 && nanos.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", nanos / unit),
            None if nanos == 0 => f.write_str("0"),
            None => write!(f, "{nanos}ns"),
        }
    }
}

/// Reads a text through `FromStr`, and a bare TOML or JSON number as its decimal text.
struct TextOrNumber<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = FormatError>> Visitor<'_> for TextOrNumber<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text with a unit, or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrNumber(std::marker::PhantomData))
            }
        }
    };
}
as_text!(ByteSize);
as_text!(GoDuration);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_of_codis_are_read() {
        let size = |t: &str| t.parse::<ByteSize>().unwrap().0;
        assert_eq!(
            (size("32mb"), size("1.5k"), size("10"), size("2g"), size("7b")),
            (32 << 20, 1536, 10, 2 << 30, 7)
        );
        let span = |t: &str| t.parse::<GoDuration>().unwrap().0;
        assert_eq!(
            (span("30s"), span("1m30s"), span("5"), span("1.5s")),
            (
                Duration::from_secs(30),
                Duration::from_secs(90),
                Duration::from_secs(5),
                Duration::from_millis(1500)
            )
        );
        assert_eq!(GoDuration::default().to_string(), "0");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "1x", "-1", "1..2mb", "99999999999pb", "mb"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        for text in ["", "x", "1x", "-1s", "s", "1s2", "99999999999999999999h"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in any::<u64>(), nanos in 0_u64..1 << 50) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse::<ByteSize>().unwrap(), ByteSize(bytes));
            let whole_ms = GoDuration(Duration::from_millis(nanos >> 20));
            prop_assert_eq!(whole_ms.to_string().parse::<GoDuration>().unwrap(), whole_ms);
        }
    }
}
