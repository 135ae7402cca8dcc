//! How long operations may take: what the `timeouts` of all resources have in common.

use std::time::Duration;
use tf::{Attr, Path};

/// Checks a time such as `90s`, `20m` or `1h30m`.
///
/// # Errors
/// What it must be.
pub(crate) fn check(text: &str) -> Result<(), String> {
    if parse(text).is_some() { Ok(()) } else { Err("must be a time such as `90s`, `20m` or `1h30m`".to_owned()) }
}

/// The time for an operation, and the attribute of `timeouts` that gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    attribute: &'static str,
    pub(crate) time: Duration,
    /// Whether the configuration has it, so that its line can be shown.
    given: bool,
}

impl Limit {
    /// `attr` is the attribute of that name.
    pub(crate) fn of(attribute: &'static str, attr: Option<&Attr<String>>, default: Duration) -> Self {
        let given = attr.and_then(|attr| attr.text()).and_then(parse);
        Self { attribute, time: given.unwrap_or(default), given: given.is_some() }
    }

    /// `timeouts.create`, for advice.
    pub(crate) fn name(self) -> String {
        format!("timeouts.{}", self.attribute)
    }

    /// Where the configuration gives it.
    pub(crate) fn path(self) -> Option<Path> {
        self.given.then(|| Path::from("timeouts").name(self.attribute))
    }
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
        assert_eq!(Limit::of("create", None, default).time, default);
        assert_eq!(Limit::of("create", Some(&Attr::Null), default).time, default);
        let given = Limit::of("create", Some(&"2m".to_owned().into()), default);
        assert_eq!((given.time, given.name().as_str()), (Duration::from_secs(120), "timeouts.create"));
        assert!(given.path().is_some());
    }

    #[test]
    fn any_text_is_answered() {
        total::text("time-out", &["1h30m"], parse);
    }
}
