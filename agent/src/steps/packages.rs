//! Packages: installed at their version, held, or absent; everything in one transaction.
//!
//! Source: apt_preferences(5), dpkg(1). Versions are pinned in a file of ours, so that whoever upgrades the machine gets the same;
//! it also tells which holds are ours. On a cluster's node the programs of Kubernetes are the cluster's to change: kubeadm has an order for
//! upgrades, and each node is drained first. What is declared of them there is what the upgrade will install. dpkg's database is read directly: asking dpkg takes longer than the whole plan may.

use super::Step;
use super::container_runtime;
use crate::change::{File, StepError, Todo, Transaction, Verb, left_over};
use crate::host::dpkg::{self, version_matches};
use crate::host::{Host, HostError};
use crate::spec::runtime_package;
use agent_proto::v1::machine::{ContainerRuntimeSpec, PackageSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::iter;

/// Packages by name.
pub(super) struct Packages {
    /// As they are declared or implied.
    pub(super) wanted: BTreeMap<String, PackageSpec>,
    /// Whose package may be another one on this machine.
    pub(super) runtime: Option<ContainerRuntimeSpec>,
}

impl Step for Packages {
    fn name(&self) -> &'static str {
        "packages"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        if !host.exists(dpkg::STATUS)? {
            return match self.wanted.is_empty() {
                true => Ok(todo),
                false => Err(StepError::unsupported(
                    "installing packages",
                    "only dpkg (Debian, Ubuntu) is known to this agent",
                )),
            };
        }
        let installed = dpkg::Packages::read(host)?;
        let mut wanted = Wanted { packages: self.on(&installed), clusters: BTreeSet::new() };
        if host.exists(MEMBER)? {
            wanted.leave_to_cluster(&installed, &mut todo);
        }
        wanted.let_go(host, &installed, &mut todo)?;
        wanted.pins(host, &mut todo)?;
        if !self.wanted.is_empty() {
            let transacted = wanted.transaction(&installed, &mut todo);
            wanted.holds(&installed, &transacted, &mut todo);
        }
        // A transaction takes it away by itself.
        if !todo.changes.iter().any(|change| matches!(change.verb, Verb::Packages(_))) {
            left_over(host, &mut todo)?;
        }
        Ok(todo)
    }
}

impl Packages {
    /// With the container runtime's package as it is called on this machine.
    fn on(&self, installed: &dpkg::Packages) -> BTreeMap<String, PackageSpec> {
        let mut wanted = self.wanted.clone();
        let Some(runtime) = &self.runtime else { return wanted };
        let (usual, here) = (runtime_package(runtime), container_runtime::package(runtime, installed));
        let any = wanted.get(usual).is_some_and(|package| package.version.is_none());
        let may_stay = wanted.get(here).is_none_or(|package| !package.absent());
        if usual != here && any && may_stay {
            let implied = wanted.remove(usual).unwrap_or_default();
            wanted.entry(here.to_owned()).or_insert(implied);
        }
        wanted
    }
}

/// Packages as they are wanted on this very machine.
struct Wanted {
    packages: BTreeMap<String, PackageSpec>,
    /// Those whose version is the cluster's to change.
    clusters: BTreeSet<String>,
}

impl Wanted {
    /// Says what waits for the cluster's upgrade. What is not there at all is installed as ever.
    fn leave_to_cluster(&mut self, installed: &dpkg::Packages, todo: &mut Todo) {
        for name in PROGRAMS {
            let (Some(found), Some(want)) = (installed.get(name), self.packages.get(name)) else { continue };
            if want.absent() {
                continue;
            }
            self.clusters.insert(name.to_owned());
            if let Some(version) = want.version.as_ref().filter(|want| !version_matches(&found.version, want)) {
                todo.skip(format!(
                    "{name} is {}, not {version}: this machine is a node, and `version` of its `groundwork_cluster` brings another one",
                    found.version
                ));
            }
        }
    }

    /// Holds of ours that are no longer declared. Before the pins are rewritten, for they tell which are ours.
    fn let_go(&self, host: &dyn Host, installed: &dpkg::Packages, todo: &mut Todo) -> Result<(), HostError> {
        let pins = host.text(PINS)?.unwrap_or_default();
        for name in pins.lines().filter_map(|line| line.strip_prefix(HELD)) {
            let wanted = self.packages.get(name).is_some_and(|package| package.hold == Some(true));
            if !wanted && installed.get(name).is_some_and(|package| package.held) {
                let verb = Verb::Hold { package: name.to_owned(), held: false };
                todo.push(format!("{name} is held"), verb, "its hold is no longer declared");
            }
        }
        Ok(())
    }

    /// A paragraph for each package that has a version, and a comment for each that we hold. A pin of a held one without a version
    /// would give apt candidates that its release wants left alone, such as backports.
    fn pins(&self, host: &dyn Host, todo: &mut Todo) -> Result<(), HostError> {
        let held = self.packages.iter().filter(|(_, package)| package.hold == Some(true));
        let pinned = self.packages.iter().filter_map(|(name, package)| Some((name, package.version.as_ref()?)));
        let held: String = held.map(|(name, _)| format!("{HELD}{name}\n")).collect();
        let pinned =
            pinned.map(|(name, version)| format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n"));
        let paragraphs: Vec<_> = iter::once(held).filter(|held| !held.is_empty()).chain(pinned).collect();
        let present = host.text(PINS)?;
        if paragraphs.is_empty() {
            if present.is_some() {
                todo.push(format!("{PINS} is no longer wanted"), Verb::Remove(PINS.to_owned()), "nothing is pinned");
            }
            return Ok(());
        }
        let want = format!("{HEAD}{}", paragraphs.join("\n"));
        if present.as_deref() != Some(&want) {
            let finding = if present.is_some() { "differs" } else { "is missing" };
            todo.push(
                format!("{PINS} {finding}"),
                Verb::Write(File::ours(PINS, want)),
                "apt must not choose other versions",
            );
        }
        Ok(())
    }

    /// The one transaction, and the packages in it.
    fn transaction(&self, installed: &dpkg::Packages, todo: &mut Todo) -> Vec<&str> {
        let mut transaction = Transaction { repair: !installed.broken.is_empty(), ..Transaction::default() };
        let mut wrong = Vec::new();
        for (name, want) in &self.packages {
            let finding = match (installed.get(name), want) {
                (Some(_), PackageSpec { absent: Some(true), .. }) => {
                    transaction.remove.push(name.clone());
                    format!("{name} is installed")
                }
                (None, PackageSpec { absent: Some(true), .. }) => continue,
                (None, want) => {
                    transaction.install.push((name.clone(), want.version.clone()));
                    format!("{name} is not installed")
                }
                (Some(found), PackageSpec { version: Some(version), .. })
                    if !version_matches(&found.version, version) && !self.clusters.contains(name) =>
                {
                    transaction.install.push((name.clone(), want.version.clone()));
                    format!("{name} is {}, not {version}", found.version)
                }
                (Some(_), _) => continue,
            };
            wrong.push((name.as_str(), finding));
        }
        if transaction.repair {
            let first = installed.broken.first().map_or("", String::as_str);
            let finding = format!("an earlier installation was interrupted ({first} is half done)");
            wrong.insert(0, ("", finding));
        }
        if !wrong.is_empty() {
            let findings = wrong.iter().map(|(_, finding)| finding.clone()).collect();
            todo.push_all(findings, Verb::Packages(transaction), "declared");
        }
        wrong.into_iter().map(|(name, _)| name).collect()
    }

    /// A transaction may take a hold away, so those it touches are held again.
    fn holds(&self, installed: &dpkg::Packages, transacted: &[&str], todo: &mut Todo) {
        for (name, want) in &self.packages {
            let held = installed.get(name).is_some_and(|package| package.held);
            let touched = transacted.contains(&name.as_str());
            let verb = |held| Verb::Hold { package: name.clone(), held };
            match want.hold {
                Some(true) if !held || touched => {
                    todo.push(format!("{name} is not held"), verb(true), "upgrades must not touch it")
                }
                Some(false) if held => todo.push(format!("{name} is held"), verb(false), "declared"),
                _ => (),
            }
        }
    }
}

/// The version that is declared for a package; nothing where none is.
pub(crate) fn declared(host: &dyn Host, package: &str) -> Result<Option<String>, HostError> {
    let pins = host.text(PINS)?.unwrap_or_default();
    let mut paragraphs = pins.split("\n\n").map(str::lines);
    let of_package = |lines: &mut std::str::Lines<'_>| lines.next() == Some(&format!("Package: {package}"));
    let lines = paragraphs.find_map(|mut lines| of_package(&mut lines).then_some(lines));
    Ok(lines.and_then(|mut lines| lines.find_map(|line| line.strip_prefix("Pin: version ")).map(str::to_owned)))
}

/// Whether a package is declared as held; so is one of which nothing is declared.
pub(crate) fn is_to_be_held(host: &dyn Host, package: &str) -> Result<bool, HostError> {
    let (held, pinned) = (format!("{HELD}{package}"), format!("Package: {package}"));
    let pins = host.text(PINS)?.unwrap_or_default();
    let mut lines = pins.lines();
    Ok(lines.clone().any(|line| line == held) || !lines.any(|line| line == pinned))
}

/// What the cluster's upgrade changes on a node.
const PROGRAMS: [&str; 3] = ["kubeadm", "kubectl", "kubelet"];
/// The kubelet's proof that it is a cluster's.
const MEMBER: &str = "/etc/kubernetes/kubelet.conf";
const PINS: &str = "/etc/apt/preferences.d/groundwork";
/// Begins a comment that says which hold is ours.
const HELD: &str = "# Held: ";
const HEAD: &str = "# Written by Groundwork; changes made here are taken back.\n\n";
