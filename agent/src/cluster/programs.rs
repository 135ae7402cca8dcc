//! kubeadm, kubelet and kubectl of a node: brought to another version by the upgrade, and by nobody else.
//!
//! The package sources are the machine's; `crate::steps` leaves these three alone on a node, and says there what is declared of them.

use super::kube::{Kube, failed, failure};
use super::version::Version;
use crate::change::{Change, Transaction, Verb, make, offered};
use crate::host::dpkg;
use crate::run::Failure;
use crate::steps;
use std::time::Instant;

/// Whether the machine's package sources have this version of all three.
///
/// # Errors
/// At the step `offer` when they have not.
pub(super) async fn are_offered(kube: &Kube<'_>, version: Version) -> Result<(), Failure> {
    let lacking = lacking(kube, &ALL, version)?;
    if lacking.install.is_empty() {
        return Ok(());
    }
    kube.cx.step_began(OFFER, 0);
    let lines = |line: &str| kube.cx.output(OFFER, line);
    offered(kube.host(), &lacking, &lines).await.map_err(|error| {
        let why = format!("the machine's package repositories do not offer Kubernetes {version}");
        let mut failure = failed::<crate::change::StepError>(OFFER, "")(error);
        failure.message = format!("{why}: {}", failure.message);
        failure
    })
}

/// Installs what is not of this version, and holds it as it is declared.
pub(super) async fn bring(kube: &Kube<'_>, step: &str, names: &[&str], version: Version) -> Result<(), Failure> {
    kube.may_go_on(step)?;
    let transaction = lacking(kube, names, version)?;
    let list = names.join(", ");
    if !transaction.install.is_empty() {
        let finding = format!("{list} {version}");
        let change =
            Change { finding, also: Vec::new(), verb: Verb::Packages(transaction), why: "the upgrade".to_owned() };
        done(kube, step, &change).await?;
    }
    for name in names {
        if !installed(kube, step)?.get(name).is_some_and(|package| version_is(&package.version, version)) {
            return Err(failure(step, format!("{name} is not {version} although it was installed")));
        }
        hold(kube, step, name).await?;
    }
    Ok(())
}

/// A transaction may take a hold away.
async fn hold(kube: &Kube<'_>, step: &str, name: &str) -> Result<(), Failure> {
    let held = installed(kube, step)?.get(name).is_some_and(|package| package.held);
    let wanted = steps::is_to_be_held(kube.host(), name).map_err(failed(step, "read which packages are held"))?;
    if held || !wanted {
        return Ok(());
    }
    let verb = Verb::Hold { package: name.to_owned(), held: true };
    let change = Change { finding: format!("hold {name}"), also: Vec::new(), verb, why: "as declared".to_owned() };
    done(kube, step, &change).await
}

async fn done(kube: &Kube<'_>, step: &str, change: &Change) -> Result<(), Failure> {
    let since = Instant::now();
    let lines = |line: &str| kube.cx.output(step, line);
    make(kube.host(), change, &lines).await.map_err(failed(step, &change.finding))?;
    kube.made(step, &change.finding, &change.why, since);
    Ok(())
}

/// What is not of this version.
fn lacking(kube: &Kube<'_>, names: &[&str], version: Version) -> Result<Transaction, Failure> {
    let installed = installed(kube, OFFER)?;
    let is_there = |name: &&&str| installed.get(name).is_some_and(|package| version_is(&package.version, version));
    let lacking = names.iter().filter(|name| !is_there(name));
    let install = lacking.map(|name| ((*name).to_owned(), Some(version.of_packages()))).collect();
    Ok(Transaction { install, repair: !installed.broken.is_empty(), ..Transaction::default() })
}

fn installed(kube: &Kube<'_>, step: &str) -> Result<dpkg::Packages, Failure> {
    dpkg::Packages::read(kube.host()).map_err(failed(step, "read which packages are installed"))
}

fn version_is(installed: &str, wanted: Version) -> bool {
    dpkg::version_matches(installed, &wanted.of_packages())
}

const ALL: [&str; 3] = ["kubeadm", "kubectl", "kubelet"];
pub(super) const OFFER: &str = "offer";
