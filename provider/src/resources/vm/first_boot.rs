//! What the first boot came to is said: a part of the user's own that failed is a failed creation, and what cloud-init left out
//! or complained of is a warning.

use pve::Vmid;
use tf::{Diagnostic, Diagnostics, Path};

use super::model::Vm;
use super::site::Site;
use crate::agents::{Endpoint, FirstBoot};
use crate::explain;

/// Waits for the end of the first boot and warns of what was left out; gives back the error if something failed.
pub(super) async fn judged(
    site: &Site<'_>,
    m: &Vm,
    vmid: Vmid,
    endpoint: &Endpoint,
) -> Result<Option<Diagnostic>, Diagnostics> {
    let progress = |line: &str| site.cx.progress(line);
    let ended = site.cx.agents.first_boot(endpoint, &site.wait(&progress)).await;
    let FirstBoot { errors, warnings } = ended.map_err(|error| site.not_booted(vmid, &error))?;
    if !errors.is_empty() {
        return Ok(Some(failed(site, m, &errors, &warnings)));
    }
    if !warnings.is_empty() {
        site.cx.warn(complained(m, vmid, &warnings));
    }
    Ok(None)
}

fn complained(m: &Vm, vmid: Vmid, warnings: &[String]) -> Diagnostic {
    let warning = Diagnostic::warning(format!("The first boot of VM {vmid} was not clean"))
        .happened(explain::listed("cloud-init finished and says:", warnings))
        .holds("The machine is up, and what is named may not be as it was asked for.")
        .next(format!("{}, and replace the VM if it matters: a first boot is not repeated.", cure(m)));
    at(warning, m)
}

fn failed(site: &Site<'_>, m: &Vm, errors: &[String], warnings: &[String]) -> Diagnostic {
    let mut happened = explain::listed("Its first boot failed. cloud-init says:", errors);
    if !warnings.is_empty() {
        happened.push_str(&explain::listed("\nand complains:", warnings));
    }
    let error = site
        .error(happened)
        .holds("The VM runs and its agent is enrolled; it is recorded in the state as tainted: the next apply replaces it.")
        .next(format!(
            "{}, and apply again. If the machine is good as it is, `terraform untaint` keeps it. \
             /var/log/cloud-init-output.log on the machine has the whole story.",
            cure(m)
        ));
    at(error, m)
}

fn cure(m: &Vm) -> &'static str {
    if has_user_data(m) {
        "Correct `user_data`, or the image if that is the cause"
    } else {
        "Correct the image or template"
    }
}

fn at(diagnostic: Diagnostic, m: &Vm) -> Diagnostic {
    if has_user_data(m) { diagnostic.at(Path::from("cloud_init").name("user_data")) } else { diagnostic }
}

fn has_user_data(m: &Vm) -> bool {
    m.cloud_init.get().is_some_and(|cloud_init| cloud_init.user_data.is_known())
}
