//! *The* ordered list of steps: from a specification to what looks after it.
//!
//! Order matters: the first boot's end and the clock before anything that checks a certificate, modules before their sysctls, the proxy
//! and apt's own files before packages, packages before their configuration, files of units before what runs by them, configuration
//! before services. A new step is a file here and a line in [`steps`].

mod block;
mod commands;
mod container_runtime;
mod files;
mod filesystems;
mod gates;
mod hostname;
mod hosts;
mod kernel_modules;
mod memory_cgroup;
mod mounts;
mod packages;
mod proxy;
mod repositories;
mod services;
mod step;
mod swap;
mod sysctls;
mod units;

use crate::spec::Spec;
use agent_proto::v1::machine::NodeSpec;

pub(crate) use packages::{declared, is_to_be_held};
pub(crate) use repositories::source_of;
pub use step::{AnyStep, Step};

/// The steps of a specification. Every step is there, also one that nothing is asked of: it takes back what it did earlier.
#[must_use]
pub fn steps(spec: &Spec) -> Vec<Box<dyn AnyStep>> {
    let spec = spec.complete();
    let files = |of_apt| files::Files { wanted: spec.file.clone(), of_apt };
    let units = units(&spec);
    let seen_to = units.names();
    vec![
        Box::new(gates::FirstBoot),
        Box::new(gates::Clock(spec.time_sync == Some(true))),
        Box::new(hostname::Hostname(spec.hostname)),
        Box::new(hosts::Hosts(spec.host)),
        Box::new(swap::Swap(spec.swap.is_some())),
        Box::new(memory_cgroup::MemoryCgroup(spec.memory_cgroup == Some(true))),
        Box::new(kernel_modules::KernelModules(spec.kernel_modules.into_iter().collect())),
        Box::new(sysctls::Sysctls(spec.sysctls)),
        Box::new(proxy::Proxy { wanted: spec.proxy.clone(), repositories: spec.repository.clone() }),
        Box::new(files(true)),
        Box::new(repositories::Repositories(spec.repository)),
        Box::new(packages::Packages { wanted: spec.package, runtime: spec.container_runtime.clone() }),
        Box::new(filesystems::Filesystems(spec.filesystem.clone())),
        Box::new(mounts::Mounts { wanted: spec.mount, filesystems: spec.filesystem }),
        Box::new(files(false)),
        Box::new(units),
        Box::new(container_runtime::Containerd(spec.container_runtime)),
        Box::new(services::Services { wanted: spec.service, seen_to }),
        Box::new(commands::Commands(spec.command)),
    ]
}

/// What is declared of units as files; the drop-ins of a proxy among them, which its own step writes.
fn units(spec: &NodeSpec) -> units::Units {
    let files = spec.file.iter().map(|(path, file)| (path.clone(), Some(file.content.clone())));
    let of_proxy =
        crate::proxy::UNITS.iter().filter(|_| spec.proxy.is_some()).map(|unit| (crate::proxy::place(unit), None));
    units::Units::among(files.chain(of_proxy))
}

#[cfg(test)]
mod tests;
