//! A kubelet is not installed beside a containerd that it cannot use: from Kubernetes 1.38 on it wants containerd 2.
//!
//! Asked once apt knows what it would install, and before it does. Source: node reference 1.14.

use super::{StepError, Transaction};
use crate::host::{Command, Host, HostError, dpkg};

pub(super) async fn serves(host: &dyn Host, transaction: &Transaction) -> Result<(), StepError> {
    let installed = dpkg::Packages::read(host)?;
    let after = |name| after(host, transaction, &installed, name);
    let Some(kubelet) = after("kubelet").await?.filter(|version| wants_two(version)) else { return Ok(()) };
    for name in RUNTIMES {
        let Some(version) = after(name).await? else { continue };
        if dpkg::number(&version, 0).is_some_and(|major| major < 2) {
            let why = "from Kubernetes 1.38 on the kubelet does not work with containerd 1.x; nothing was installed. Take containerd 2, \
                       such as Docker's: its `repository`, and `container_runtime { package = \"containerd.io\" }`; \
                       or set `kubernetes.version` to an older one";
            return Err(StepError::refused(format!("kubelet {kubelet} with {name} {version}"), why));
        }
    }
    Ok(())
}

/// The version that a package has after the transaction, if it is there.
async fn after(
    host: &dyn Host,
    transaction: &Transaction,
    installed: &dpkg::Packages,
    name: &str,
) -> Result<Option<String>, HostError> {
    match transaction.install.iter().find(|(other, _)| other == name) {
        Some((_, Some(version))) => Ok(Some(version.clone())),
        Some((_, None)) => candidate(host, name).await,
        None => Ok(installed.get(name).map(|package| package.version.clone())),
    }
}

/// The version that apt would choose.
async fn candidate(host: &dyn Host, name: &str) -> Result<Option<String>, HostError> {
    let policy = Command::new("/usr/bin/apt-cache", ["policy", name]).env("LC_ALL", "C");
    let said = host.run_ok(&policy, &|_| ()).await?.stdout;
    Ok(said.lines().find_map(|line| line.trim().strip_prefix("Candidate: ")).map(str::to_owned))
}

fn wants_two(kubelet: &str) -> bool {
    (dpkg::number(kubelet, 0), dpkg::number(kubelet, 1)) >= (Some(1), Some(38))
}

const RUNTIMES: [&str; 2] = ["containerd", "containerd.io"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::dpkg::STATUS;
    use crate::host::fake::Fake;

    async fn check(kubelet: &str, runtime: (&str, Option<&str>), installed: &str) -> Result<(), String> {
        let host = Fake::template();
        host.put(STATUS, installed);
        let install = vec![
            ("kubelet".to_owned(), Some(kubelet.to_owned())),
            (runtime.0.to_owned(), runtime.1.map(str::to_owned)),
        ];
        let transaction = Transaction { install, ..Transaction::default() };
        serves(&host, &transaction).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_kubelet_that_wants_containerd_2_is_refused_beside_1() {
        let error = check("1.38.0-*", ("containerd", None), "").await.unwrap_err();
        let want = "kubelet 1.38.0-* with containerd 1.6.20~ds1-1+deb12u1 is refused: from Kubernetes 1.38 on";
        assert!(error.starts_with(want), "{error}");
        assert!(check("1.38.0-*", ("containerd.io", Some("1.7.28-*")), "").await.is_err());
        let held = "Package: containerd\nStatus: hold ok installed\nVersion: 1:1.7.24-1\n";
        assert!(check("1.39.1-1.1", ("nginx", None), held).await.is_err());
    }

    #[tokio::test]
    async fn anything_else_is_left_to_the_user() {
        assert_eq!(check("1.37.9-*", ("containerd", None), "").await, Ok(()));
        assert_eq!(check("1.38.0-*", ("containerd.io", Some("2.2.1-*")), "").await, Ok(()));
        assert_eq!(check("1.38.0-*", ("nginx", None), "").await, Ok(()));
    }
}
