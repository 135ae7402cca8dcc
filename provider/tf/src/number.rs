//! Numbers of any size, as Terraform has them: kept as plain decimal text, never rounded.
//!
//! Two numbers are equal when their canonical texts are: no sign on zero, no leading or trailing zeros, no exponent.

use std::fmt;

/// Digits a number may have when written out; far beyond what Terraform's own 512-bit numbers need.
const MAX_DIGITS: usize = 200_000;

/// A decimal number of any size and precision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(String);

impl Number {
    /// Reads a decimal number, with or without sign, fraction and exponent; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let point = i64::try_from(whole.len()).ok()?.checked_add(exponent)?;
        place_point(&digits, point).map(|plain| Self::canonical(negative, &plain))
    }

    /// The number as plain decimal text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The number, if it is whole and fits.
    #[must_use]
    pub fn to_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// The nearest 64-bit float; infinite for what lies beyond.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// A finite float, digit by digit: `0.1` gives 55 digits. `None` for infinities and NaN.
    #[must_use]
    pub fn exactly(float: f64) -> Option<Self> {
        if !float.is_finite() {
            return None;
        }
        // 1,074 places hold every finite double.
        Self::parse(&format!("{float:.1074}"))
    }

    /// The shortest text that reads back as this float, as people write it. `None` for infinities and NaN.
    #[must_use]
    pub fn shortest(float: f64) -> Option<Self> {
        if float.is_finite() { Self::parse(&float.to_string()) } else { None }
    }

    fn canonical(negative: bool, plain: &str) -> Self {
        let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let zero = whole.is_empty() && fraction.is_empty();
        let sign = if negative && !zero { "-" } else { "" };
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        Self(format!("{sign}{whole}{point}{fraction}"))
    }
}

/// `digits` with the point after the first `point` of them, which may lie outside.
fn place_point(digits: &str, point: i64) -> Option<String> {
    let length = i64::try_from(digits.len()).ok()?;
    let zeros = |count: i64| usize::try_from(count).ok().filter(|n| *n <= MAX_DIGITS).map(|n| "0".repeat(n));
    if point <= 0 {
        return Some(format!("0.{}{digits}", zeros(point.checked_neg()?)?));
    }
    if point >= length {
        return Some(format!("{digits}{}", zeros(point - length)?));
    }
    let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
    Some(format!("{whole}.{fraction}"))
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self(number.to_string())
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        assert_eq!(Number::parse(text).unwrap().text(), canonical);
    }

    #[test]
    fn any_text_is_answered() {
        // As long as its exponent says: that many digits are held at most.
        total::text("number", &["-12.5e3"], |text| Number::parse(text).map(|number| number.text().len()));
    }

    #[test]
    fn every_spelling_of_a_number_has_one_text() {
        check("0", "0");
        check("-0", "0");
        check("-0.0e7", "0");
        check("007.500", "7.5");
        check("1e3", "1000");
        check("1.25E-3", "0.00125");
        check("-.5", "-0.5");
        check("12345678901234567890123456789.5", "12345678901234567890123456789.5");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "-", ".", "1.2.3", "0x10", "1e", "e3", "NaN", "inf", "1e9999999999", "1e999999999999999999999", "１"]
        {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    #[test]
    fn floats_are_read_both_ways() {
        assert_eq!(Number::shortest(0.1).unwrap().text(), "0.1");
        assert_eq!(Number::exactly(0.5).unwrap().text(), "0.5");
        assert_eq!(Number::exactly(0.1).unwrap().text().len(), 57);
        assert_eq!(Number::exactly(f64::INFINITY), None);
        assert_eq!(Number::exactly(f64::MIN_POSITIVE).unwrap().to_f64().to_bits(), f64::MIN_POSITIVE.to_bits());
    }
}
