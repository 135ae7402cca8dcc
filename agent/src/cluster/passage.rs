//! The package repository of a minor version that an upgrade passes through.
//!
//! Each minor version has a repository of its own, and a machine declares that of the version it is to end with. While its node is brought to a
//! minor version before that one, the same repository of that version stands beside it; a cut may leave it there, and the machine's own
//! repositories know it for no longer declared. Where the address names no minor version, the repository has all of them.
//! Source: kubernetes.io, "Changing the Kubernetes package repository": all of them are signed with one key.

use super::version::Version;
use crate::change::{StepError, available};
use crate::host::{Access, Host, HostError};
use crate::steps::source_of;

/// Has the repository of this version's minor stand beside the machine's own, if that is of a later one.
pub(super) fn open(host: &dyn Host, version: Version) -> Result<(), HostError> {
    let declared = host.text(&source_of(DECLARED))?.unwrap_or_default();
    match turned(&declared, version) {
        Some(source) => host.write(&source_of(PASSAGE), source.as_bytes(), Access::OPEN),
        None => close(host),
    }
}

/// Takes it away; fine if it is gone.
pub(super) fn close(host: &dyn Host) -> Result<(), HostError> {
    if host.exists(&source_of(PASSAGE))? { host.remove(&source_of(PASSAGE)) } else { Ok(()) }
}

/// The newest version of a minor version that the machine's package repositories offer, with the one on the way to what is declared.
///
/// # Errors
/// When a repository is not reached, or not to be believed.
pub async fn newest(host: &dyn Host, minor: Version) -> Result<Option<Version>, StepError> {
    open(host, minor)?;
    let found = available(host, "kubeadm").await;
    close(host)?;
    let versions = found?.into_iter().filter_map(|version| version.parse::<Version>().ok());
    Ok(versions.filter(|version| version.same_minor(minor)).max())
}

/// A source of packages as it is for an earlier minor version; `None` if it is of that one, of an earlier one, or of all.
fn turned(source: &str, version: Version) -> Option<String> {
    let uris = source.lines().find_map(|line| line.strip_prefix("URIs: "))?;
    let own = uris.split('/').find_map(|part| format!("{}.0", part.strip_prefix('v')?).parse::<Version>().ok())?;
    if own.minors_above(version) < 1 {
        return None;
    }
    let part = |version: Version| format!("/v{}/", version.minor());
    // The key stays where it is, and so does the line that says where it came from.
    let line = |line: &str| match line.starts_with("URIs: ") {
        true => line.replace(&part(own), &part(version)),
        false => line.to_owned(),
    };
    Some(source.lines().map(|one| format!("{}\n", line(one))).collect())
}

/// Name of the repository that `kubernetes` of a machine's specification adds.
const DECLARED: &str = "kubernetes";
const PASSAGE: &str = "kubernetes-on-the-way";

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(url: &str, version: &str) -> Option<String> {
        let source =
            format!("# Ours.\n# Key: {url}Release.key\nTypes: deb\nURIs: {url}\nSuites: /\nSigned-By: /k.asc\n");
        let turned = turned(&source, version.parse().unwrap())?;
        assert!(
            turned.contains(&format!("# Key: {url}Release.key\n")) && turned.ends_with("Signed-By: /k.asc\n"),
            "{turned}"
        );
        turned.lines().find_map(|line| line.strip_prefix("URIs: ")).map(str::to_owned)
    }

    #[test]
    fn the_repository_of_a_version_on_the_way_is_the_declared_one_of_that_minor() {
        let official = "https://pkgs.k8s.io/core:/stable:/v1.36/deb/";
        assert_eq!(turn(official, "1.35.4").unwrap(), "https://pkgs.k8s.io/core:/stable:/v1.35/deb/");
        assert_eq!(turn("http://mirror/v2/kubernetes/v1.36/", "1.34.0").unwrap(), "http://mirror/v2/kubernetes/v1.34/");
        for (url, version) in [(official, "1.36.3"), (official, "1.37.0"), ("http://mirror/all/", "1.35.4")] {
            assert_eq!(turn(url, version), None, "{url} {version}");
        }
        assert_eq!(turned("", "1.35.4".parse().unwrap()), None);
        total::text("kubernetes-source", &["URIs: http://m/v1.36/\n"], |text| turned(text, "1.35.4".parse().unwrap()));
    }
}
