//! Whether a containerd is one that a kubelet was released for: below that, Kubernetes promises nothing.
//!
//! Source: containerd's "Kubernetes support" (RELEASES.md), which names the least patch release of each line.

use crate::host::dpkg;

/// What is wrong with containerd `runtime` under this `kubelet`, by the versions of their packages.
pub(super) fn complaint(kubelet: &str, runtime: &str) -> Option<String> {
    let minor = Some(dpkg::number(kubelet, 1)?).filter(|_| dpkg::number(kubelet, 0) == Some(1))?;
    let lines = LEAST.iter().rev().find(|(from, _)| minor >= *from)?.1;
    let found = (dpkg::number(runtime, 0)?, dpkg::number(runtime, 1)?, patch(runtime));
    let fits = match lines.iter().find(|(major, line, _)| (*major, *line) == (found.0, found.1)) {
        Some(least) => found >= *least,
        // A line that is not named: it must be newer than all that are.
        None => lines.iter().all(|least| found > *least),
    };
    let list: Vec<String> = lines.iter().map(|(major, line, patch)| format!("{major}.{line}.{patch}")).collect();
    let least = list.join(" or ");
    (!fits).then(|| format!("kubelet 1.{minor} wants at least containerd {least}, and this is {runtime}: {CURE}"))
}

const CURE: &str =
    "take a newer one, such as Docker's: its `repository`, and `container_runtime { package = \"containerd.io\" }`";

/// The third number, whatever follows it: `2~ds1-1` is 2.
fn patch(version: &str) -> u32 {
    let third = version.split('.').nth(2).unwrap_or_default();
    let digits = third.find(|c: char| !c.is_ascii_digit()).map_or(third, |end| third.get(..end).unwrap_or_default());
    digits.parse().unwrap_or(0)
}

/// From which minor release of Kubernetes on, and the least of each line.
type Least = (u32, &'static [(u32, u32, u32)]);
const LEAST: [Least; 3] =
    [(34, &[(1, 7, 28), (2, 0, 6), (2, 1, 3)]), (35, &[(1, 7, 28), (2, 1, 5), (2, 2, 0)]), (36, &[(2, 2, 0)])];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_least_release() {
        for (kubelet, runtime, fits) in [
            ("1.33.1-1.1", "1.6.20~ds1-1", true),
            ("1.34.4-1.1", "1.6.20~ds1-1", false),
            ("1.34.4-1.1", "1.7.24~ds1-6", false),
            ("1.34.4-1.1", "1.7.28-1", true),
            ("1.34.4-1.1", "2.2.0-1", true),
            ("1.35.1-1.1", "2.0.9-1", false),
            ("1.35.1-1.1", "2.1.5-1~debian.12~bookworm", true),
            ("1.36.3-1.1", "1.7.28-1", false),
            ("1.36.3-1.1", "2.2.9-1", true),
            ("1.37.0-1.1", "2.1.5-1", false),
        ] {
            assert_eq!(complaint(kubelet, runtime).is_none(), fits, "{kubelet} {runtime}");
        }
        assert_eq!(
            complaint("1.36.3-1.1", "1:1.7.24-1").unwrap(),
            format!("kubelet 1.36 wants at least containerd 2.2.0, and this is 1:1.7.24-1: {CURE}")
        );
    }
}
