//! *The* ordered list of steps: from a specification to what looks after it.
//!
//! Order matters: the first boot's end and the clock before anything that checks a certificate, modules before their sysctls,
//! packages before their configuration, configuration before services. A new step is a file here and a line in [`steps`].

mod block;
mod commands;
mod container_runtime;
mod files;
mod filesystems;
mod gates;
mod hostname;
mod hosts;
mod kernel_modules;
mod mounts;
mod packages;
mod repositories;
mod services;
mod swap;
mod sysctls;

use crate::spec::Spec;
use crate::step::AnyStep;
use agent_proto::v1::machine::NodeSpec;

/// The steps of a specification. Every step is there, also one that nothing is asked of: it takes back what it did earlier.
#[must_use]
pub fn steps(spec: &Spec) -> Vec<Box<dyn AnyStep>> {
    let spec = spec.complete();
    let claimed = claimed(&spec);
    vec![
        Box::new(gates::FirstBoot),
        Box::new(gates::Clock(spec.time_sync == Some(true))),
        Box::new(hostname::Hostname(spec.hostname)),
        Box::new(hosts::Hosts(spec.hosts)),
        Box::new(swap::Swap(spec.swap.is_some())),
        Box::new(kernel_modules::KernelModules(spec.kernel_modules.into_iter().collect())),
        Box::new(sysctls::Sysctls(spec.sysctls)),
        Box::new(repositories::Repositories(spec.repositories)),
        Box::new(packages::Packages { wanted: spec.packages, runtime: spec.container_runtime.clone() }),
        Box::new(filesystems::Filesystems(spec.filesystems.clone())),
        Box::new(mounts::Mounts { wanted: spec.mounts, filesystems: spec.filesystems }),
        Box::new(files::Files { wanted: spec.files, claimed }),
        Box::new(container_runtime::Containerd(spec.container_runtime)),
        Box::new(services::Services(spec.services)),
        Box::new(commands::Commands(spec.commands)),
    ]
}

/// Beginnings of paths that other steps than `files` have written over and still need.
fn claimed(spec: &NodeSpec) -> Vec<String> {
    let containerd = spec.container_runtime.as_ref().map(container_runtime::paths).unwrap_or_default();
    let swap = spec.swap.as_ref().map(|_| swap::ZRAM.to_owned());
    let sources = (!spec.repositories.is_empty()).then(|| repositories::SOURCES.to_owned());
    containerd.into_iter().chain(swap).chain(sources).collect()
}

#[cfg(test)]
mod tests;
