//! Addresses with the length of their network's prefix, `192.0.2.11/24`.

use std::net::IpAddr;
use tf::check::Verdict;

/// Address and length. Whether the length fits the address is for the caller to say.
pub(crate) fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    digits.then_some(())?;
    Some((address.parse().ok()?, length.parse().ok()?))
}

/// Whether two addresses of one kind have the same first `length` bits.
pub(crate) fn agree(one: IpAddr, other: IpAddr, length: u8) -> bool {
    let common = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    common >= u32::from(length)
}

/// The first and the last address of a network.
pub(crate) fn bounds(address: IpAddr, length: u8) -> (IpAddr, IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let rest = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let bits = address.to_bits();
            (IpAddr::V4((bits & !rest).into()), IpAddr::V4((bits | rest).into()))
        }
        IpAddr::V6(address) => {
            let rest = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let bits = address.to_bits();
            (IpAddr::V6((bits & !rest).into()), IpAddr::V6((bits | rest).into()))
        }
    }
}

/// Where somebody may come from: `192.0.2.0/24`, or one address.
pub(crate) fn source(text: &str) -> Verdict {
    let fits = |(address, length): (IpAddr, u8)| length <= if address.is_ipv4() { 32 } else { 128 };
    let good = text.parse::<IpAddr>().is_ok() || parse(text).is_some_and(fits);
    if good { Ok(()) } else { Err("must be a network such as `192.0.2.0/24`, or an address".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_answered() {
        total::text("cidr", &["192.0.2.11/24", "fd00::/64"], |text| {
            parse(text).map(|(one, length)| (agree(one, one, length), bounds(one, length)))
        });
    }
}
