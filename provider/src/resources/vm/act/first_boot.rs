//! What the first boot came to is said: a part of the user's own that failed is a failed creation, and what cloud-init left out
//! or complained of is a warning.

use pve::Vmid;
use tf::{Diagnostic, Path};

use super::error::{Error, Problem};
use super::operation::Target;
use super::watch;
use crate::agents::{Endpoint, FirstBoot};
use crate::explain;
use crate::resources::vm::model::Vm;

/// Waits for the end of the first boot and warns of what was left out; gives back what failed, if anything did.
pub(super) async fn judged(target: &Target<'_>, m: &Vm, endpoint: &Endpoint) -> Result<Option<Problem>, Error> {
    let (cx, vmid) = (target.op.cx, target.vmid);
    let progress = |line: &str| cx.progress(line);
    let wait = target.op.wait(&progress);
    let ended = async {
        let ended = cx.agents.first_boot(endpoint, &wait).await;
        ended.map_err(|error| Error::FirstBoot(vmid, error))
    };
    let FirstBoot { errors, warnings } = watch::while_on(target, ended).await?;
    if !errors.is_empty() {
        return Ok(Some(failed(m, &errors, &warnings)));
    }
    if !warnings.is_empty() {
        cx.warn(complained(m, vmid, &warnings));
    }
    Ok(None)
}

fn complained(m: &Vm, vmid: Vmid, warnings: &[String]) -> Diagnostic {
    let warning = Diagnostic::warning(format!("The first boot of VM {vmid} was not clean"))
        .happened(explain::listed("cloud-init finished and says:", warnings))
        .holds("The machine is up, and what is named may not be as it was asked for.")
        .next(format!("{}, and replace the VM if it matters: a first boot is not repeated.", cure(m)));
    if has_user_data(m) { warning.at(user_data()) } else { warning }
}

fn failed(m: &Vm, errors: &[String], warnings: &[String]) -> Problem {
    let mut happened = explain::listed("Its first boot failed. cloud-init says:", errors);
    if !warnings.is_empty() {
        happened.push_str(&explain::listed("\nand complains:", warnings));
    }
    let cure = format!(
        "{}, and apply again. If the machine is good as it is, `terraform untaint` keeps it. \
         /var/log/cloud-init-output.log on the machine has the whole story.",
        cure(m)
    );
    let problem = Problem::new(happened, cure);
    if has_user_data(m) { problem.at(user_data()) } else { problem }
}

fn cure(m: &Vm) -> &'static str {
    if has_user_data(m) {
        "Correct `user_data`, or the image if that is the cause"
    } else {
        "Correct the image or template"
    }
}

fn user_data() -> Path {
    Path::from("cloud_init").name("user_data")
}

fn has_user_data(m: &Vm) -> bool {
    m.cloud_init.get().is_some_and(|cloud_init| cloud_init.user_data.is_known())
}
