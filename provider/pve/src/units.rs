//! Sizes as Proxmox VE writes them: `10G`, `1536M`, `528K`.

use std::fmt;
use std::str::FromStr;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// That many GiB.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(GIB))
    }

    /// In GiB, rounded up: a disk is never said to be smaller than it is.
    #[must_use]
    pub const fn gib_up(self) -> u64 {
        self.0.div_ceil(GIB)
    }
}

/// In the largest unit that divides exactly, as the server writes it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().rev().find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match exact {
            Some((letter, unit)) => write!(f, "{}{letter}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The text is not a size.
impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let unit = UNITS.iter().find(|(letter, _)| text.ends_with(*letter));
        let (digits, unit) =
            unit.map_or((text, 1), |(letter, unit)| (text.strip_suffix(*letter).unwrap_or(text), *unit));
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let decimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 18 || part.len() > 6 || !decimal(whole) || !decimal(part) {
            return Err(());
        }
        let whole: u64 = whole.parse().map_err(|_| ())?;
        let millionths: u64 = format!("{part:0<6}").parse().map_err(|_| ())?;
        let part = u128::from(millionths) * u128::from(unit) / 1_000_000;
        let bytes = u128::from(whole) * u128::from(unit) + part;
        u64::try_from(bytes).map(Self).map_err(|_| ())
    }
}

const UNITS: [(char, u64); 4] = [('K', 1 << 10), ('M', MIB), ('G', GIB), ('T', 1 << 40)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_as_the_server_does() {
        for text in ["528K", "4M", "1536M", "10G", "2T", "1023"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("0.5G".parse::<Size>().unwrap().to_string(), "512M");
        assert_eq!("2252M".parse::<Size>().unwrap().gib_up(), 3);
        for bad in ["", "G", "-1G", "1GG", "1.2.3G", "10X", "99999999999999999999T"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
