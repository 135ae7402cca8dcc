//! What names that Proxmox VE gives to things look like. Each message completes "`attribute` …".

use tf::check::Verdict;

pub(crate) fn node(text: &str) -> Verdict {
    let good = text.parse::<pve::NodeName>().is_ok();
    if good { Ok(()) } else { Err("must be the name of a node: letters, digits and `-`".to_owned()) }
}

pub(crate) fn storage(text: &str) -> Verdict {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let good = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(inner);
    if good { Ok(()) } else { Err("must be the name of a storage, such as `local-lvm`".to_owned()) }
}

/// Source: `pve-poolid` of pve-access-control 9: three levels, and each begins with a letter.
pub(crate) fn pool(text: &str) -> Verdict {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let level = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(inner);
    let good = text.split('/').all(level) && text.split('/').count() <= 3;
    if good {
        Ok(())
    } else {
        Err("must be the name of a pool, such as `dev` or `dev/web`: letters, digits and `-_.`, each of at most three levels beginning with a letter".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_no_storage_and_a_host_no_node() {
        assert!(node("pve1").is_ok() && node("pve1.example.org").is_err() && node("").is_err());
        assert!(storage("local-lvm").is_ok() && storage("local:import").is_err() && storage("").is_err());
    }

    #[test]
    fn a_pool_has_three_levels_at_most() {
        assert!(pool("dev").is_ok() && pool("dev/web/blue-1").is_ok());
        for bad in ["", "-p", "p 18", "9p", "a//b", "a/", "a/b/c/d", "a/-b"] {
            assert!(pool(bad).is_err(), "{bad}");
        }
    }
}
