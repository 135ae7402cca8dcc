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
mod step;
mod swap;
mod sysctls;

use crate::spec::Spec;

pub use step::{AnyStep, Step};

/// The steps of a specification. Every step is there, also one that nothing is asked of: it takes back what it did earlier.
#[must_use]
pub fn steps(spec: &Spec) -> Vec<Box<dyn AnyStep>> {
    let spec = spec.complete();
    vec![
        Box::new(gates::FirstBoot),
        Box::new(gates::Clock(spec.time_sync == Some(true))),
        Box::new(hostname::Hostname(spec.hostname)),
        Box::new(hosts::Hosts(spec.host)),
        Box::new(swap::Swap(spec.swap.is_some())),
        Box::new(kernel_modules::KernelModules(spec.kernel_modules.into_iter().collect())),
        Box::new(sysctls::Sysctls(spec.sysctls)),
        Box::new(repositories::Repositories(spec.repository)),
        Box::new(packages::Packages { wanted: spec.package, runtime: spec.container_runtime.clone() }),
        Box::new(filesystems::Filesystems(spec.filesystem.clone())),
        Box::new(mounts::Mounts { wanted: spec.mount, filesystems: spec.filesystem }),
        Box::new(files::Files(spec.file)),
        Box::new(container_runtime::Containerd(spec.container_runtime)),
        Box::new(services::Services(spec.service)),
        Box::new(commands::Commands(spec.command)),
    ]
}

#[cfg(test)]
mod tests;
