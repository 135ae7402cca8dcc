//! What a machine was told when it was made: the blocks that are used at creation only. Its agent keeps a record of them, because
//! nobody else can tell an import, and Terraform takes no placeholder for a block.

use tf::{Attr, Diagnostic};

use super::model::Vm;
use crate::agents::{Endpoint, Error, again};
use crate::context::{Cx, looking};
use crate::{explain, record};
use trust::Role;

/// Has the agent of a machine that was just made keep the record.
pub(super) async fn keep(cx: &Cx, m: &Vm) {
    // One that is off is not waited for.
    let Some(endpoint) = endpoint(m).filter(|_| m.started.is_true()) else { return };
    if let Err(error) = kept(cx, m, &endpoint).await {
        cx.warn(
            Diagnostic::warning(format!("Cannot keep the record of VM {}", m.id.or("")))
                .happened(tf::chain(&error))
                .holds("The machine is as declared. Only `terraform import` cannot tell later what it was made from.")
                .next("Nothing, unless you want to import the machine one day: its `cloud_init`, `clone` and `agent` then show as new once."),
        );
    }
}

async fn kept(cx: &Cx, m: &Vm, endpoint: &Endpoint) -> Result<(), Error> {
    let (document, until) = (record::write(&of(m)), looking(cx));
    again(|| async { cx.agents.connect(endpoint, Role::Operator, &until).await?.record(RECORD, &document).await }).await
}

/// Whether the record of a machine is another one than before, or the first.
pub(super) fn is_new(prior: &Vm, m: &Vm) -> bool {
    of(prior) != of(m) || prior.endpoint.is_null()
}

/// Takes over what the agent of an imported machine has on record. Only operators are told records.
pub(super) async fn recall(cx: &Cx, m: &mut Vm, endpoint: &Endpoint) {
    if cx.agents.at_most(Role::Operator) != Role::Operator {
        let what = ["`cloud_init`, `clone` and `agent`, which its agent has on record: they show as new".to_owned()];
        cx.warn(explain::not_looked_at("VM", &m.id.or(""), &what));
        return;
    }
    let Ok(mut agent) = cx.agents.connect(endpoint, Role::Operator, &looking(cx)).await else { return };
    let Ok(said) = agent.describe().await else { return };
    let recorded = said.records.get(RECORD).and_then(|document| record::read::<Vm>(document));
    if let Some(Vm { clone, cloud_init, agent, .. }) = recorded {
        (m.clone, m.cloud_init, m.agent) = (clone, cloud_init, agent);
    }
}

/// Whether a VM came by an import: nobody knows what such a one was made from.
pub(super) fn is_imported(m: &Vm) -> bool {
    m.image.text() == Some(tf::IMPORTED)
}

/// The model with nothing but those blocks, and no secret in them.
fn of(m: &Vm) -> Vm {
    let mut cloud_init = m.cloud_init.clone();
    if let Some(cloud_init) = cloud_init.get_mut() {
        cloud_init.password = Attr::Null;
    }
    Vm { clone: m.clone.clone(), cloud_init, agent: m.agent.clone(), ..Vm::default() }
}

fn endpoint(m: &Vm) -> Option<Endpoint> {
    let endpoint = m.endpoint.get()?;
    Some(Endpoint { address: endpoint.address.cloned()?, fingerprint: endpoint.fingerprint.cloned()? })
}

/// Kind of the agent's record.
const RECORD: &str = "vm";

#[cfg(test)]
mod tests {
    use super::super::model::CloudInit;
    use super::*;

    #[test]
    fn any_record_is_answered() {
        let good = r#"{"cloud_init":{"user":"admin","network":{"net0":{"address":"192.0.2.1/24"}}},"agent":{},"clone":{"vmid":900}}"#;
        total::text("vm-record", &[good], |text| record::read::<Vm>(text).map(|m| of(&m)));
    }

    #[test]
    fn a_record_reads_back_and_holds_no_password() {
        let cloud_init =
            CloudInit { user: "admin".into(), password: Attr::Known("hunter2".into()), ..CloudInit::default() };
        let m = Vm { name: "one".into(), cloud_init: cloud_init.into(), ..Vm::default() };
        let document = record::write(&of(&m));
        assert!(!document.contains("hunter2") && !document.contains("one"), "{document}");
        let read = record::read::<Vm>(&document).unwrap();
        assert_eq!(read.cloud_init.need().unwrap().user.text(), Some("admin"));
        assert!(read.agent.is_null() && read.clone.is_null());
    }
}
