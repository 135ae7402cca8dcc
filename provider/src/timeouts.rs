//! How long operations may take: what the `timeouts` of all resources have in common.

use std::time::Duration;
use tf::Attr;

/// Checks a time such as `90s`, `20m` or `1h30m`.
///
/// # Errors
/// What it must be.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if parse(text).is_some() { Ok(()) } else { Err("must be a time such as `90s`, `20m` or `1h30m`".to_owned()) }
}

/// What an attribute gives, or else the default.
pub(crate) fn or(given: Option<&Attr<String>>, default: Duration) -> Duration {
    given.and_then(|attr| attr.text()).and_then(parse).unwrap_or(default)
}

/// `1h30m`, up to a week.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).filter(|end| *end > 0)?;
        let number: u64 = rest.get(..end)?.parse().ok()?;
        let unit = match rest.as_bytes().get(end)? {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = rest.get(end + 1..)?;
    }
    (total > 0 && total <= 86_400 * 7).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_terraform_writes_them() {
        assert_eq!(parse("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("90s"), Some(Duration::from_secs(90)));
        for bad in ["", "20", "m", "0s", "1d", "-5m", "169h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_takes_the_default() {
        let default = Duration::from_secs(60);
        assert_eq!(or(None, default), default);
        assert_eq!(or(Some(&Attr::Null), default), default);
        assert_eq!(or(Some(&"2m".to_owned().into()), default), Duration::from_secs(120));
    }
}
