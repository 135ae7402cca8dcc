//! `groundwork_vm`: a virtual machine, from an image, a clone or empty, up to the enrolment of its agent.
//!
//! Endpoints: `/nodes/{node}/qemu` and below, `/cluster/resources`, `/cluster/nextid`, uploads and deletions of seed images.
//! Odd about them: `pending` is read instead of `config`; a number is claimed by the create call and by nothing before it;
//! a VM may be on another node than it was created on.
//!
//! `model` has the attributes; `options`, `disks` and `cards` are tables that say all about each option in one row. Two rooms build on
//! that: `plan` says what a change will do, `act` does it. `notes` is what they leave for one another.

mod act;
mod addresses;
mod cards;
mod checks;
mod config;
mod disks;
mod effect;
mod fill;
mod locate;
mod lost;
mod marker;
mod model;
mod notes;
mod option;
mod options;
mod origin;
mod plan;

use std::collections::BTreeSet;
use std::time::Duration;

use tf::{Attr, Diagnostic, Diagnostics, PlanNotes, Presence, Resource};

use self::locate::Look;
use self::model::Vm;
use self::notes::{noted, slots};
use crate::agents::Error as AgentError;
use crate::context::{Cx, Data, looking};
use crate::endpoint::AgentEndpoint;
use crate::explain;

/// See [`Resource::DOC`].
pub(crate) struct VmResource;

impl Resource for VmResource {
    type Data = Data;
    type Model = Vm;

    const NAME: &'static str = "vm";
    const DOC: &'static str = "A virtual machine: from an image, as a clone, or with empty disks. Only what is written is managed. \
        What is not is left as it is: options are shown, disks and cards are not.\n\n\
        Changes are made in place where Proxmox VE can, and `effects` of the plan says for each whether it is live, needs a reboot, \
        or replaces the machine. What is live depends on the VM's `hotplug` too, as the last refresh saw it; a reboot that the plan did \
        not announce is not made. A replacement looks for everything that the new machine needs (its node, storages, bridges, image) \
        before it destroys the old one, and `lost_on_destroy` says what goes with that.\n\n\
        `cloud_init` and `agent` go onto a seed image of the machine's own, uploaded to a storage with content `iso`. With `agent`, \
        the image is ejected and deleted when the agent has enrolled. Without, nobody can say when the first boot is over: the \
        image stays attached until the machine is destroyed, which keeps the VM from moving to another node unless the storage is \
        shared. Its instance id is the machine's UUID and never changes, so that no later change repeats first-boot work.\n\n\
        With `agent`, the end of the first boot is waited for, and what cloud-init says of it is said: a module or script that failed \
        is an error, after which the VM is complete and tainted, and what it left out or complained of is a warning. A `user_data` that \
        waits for something which comes later in the same apply ends with the time limit.\n\n\
        A VM or template to `clone` should hold nothing that is one machine's alone: an empty `/etc/machine-id`, no agent with a state, \
        no SSH host keys, and a cloud-init that runs. `groundwork-agent seal` on the machine makes it so; see the guide \
        [Templates and clones](../guides/templates.md).\n\n\
        A creation that was cut off is completed by the next apply in the same folder and workspace, which has its token in \
        `.terraform/groundwork` and recognises the VM by a line in its description. An apply from anywhere else leaves such a VM alone and \
        names it.";

    async fn create(&self, cx: &Cx, m: &mut Vm) -> Result<(), Diagnostics> {
        act::create::create(cx, m).await?;
        slots::done(cx.private(), BTreeSet::new());
        origin::keep(cx, m).await;
        Ok(())
    }

    async fn read(&self, cx: &Cx, m: &mut Vm) -> Result<Presence, Diagnostics> {
        let found = match locate::look_for(cx, m).await? {
            Look::Here(found) => found,
            Look::Gone => return Ok(Presence::Gone),
            Look::Unseen(error) => {
                cx.warn(unseen(m, &error));
                return Ok(Presence::Here);
            }
        };
        m.vmid.set(i64::from(found.vmid.get()));
        m.current_node.set(found.node.to_string());
        slots::seen(cx.private(), &found.settings);
        let before = m.clone();
        fill::fill(m, &found.settings, &slots::ours(cx.private()));
        if let Ok(seen) = cx.pve()?.cluster().guests_since(LIST).await {
            noted::note(cx.private(), &found.settings, seen.nodes());
        }
        // What the last plan announced has been done, or will be announced again.
        m.effects.set(Vec::new());
        if found.is_template() && m.started.is_true() {
            cx.warn(template(m));
        } else {
            // What a plan makes of a difference depends on whether the VM runs.
            let differs = before.options != m.options || before.disk != m.disk || before.network != m.network;
            let waits = m.waiting.get().is_some_and(|keys| !keys.is_empty());
            power(cx, m, &found, differs || waits).await?;
        }
        addresses(cx, m, &found).await?;
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, prior: &Vm, m: &mut Vm) -> Result<(), Diagnostics> {
        act::update::update(cx, prior, m).await?;
        if origin::is_new(prior, m) {
            origin::keep(cx, m).await;
        }
        Ok(())
    }

    async fn delete(&self, cx: &Cx, m: &Vm) -> Result<(), Diagnostics> {
        let removed = async {
            act::replace::check(cx, m).await?;
            act::remove::remove(cx, m).await
        };
        removed.await.inspect_err(|_| slots::stays(cx.private(), m))
    }

    fn validate(&self, m: &Vm) -> Diagnostics {
        plan::validate::validate(m)
    }

    fn plan(&self, prior: Option<&Vm>, config: &Vm, m: &mut Vm, notes: &mut PlanNotes) {
        plan::plan(prior, config, m, notes);
    }

    async fn import(&self, cx: &Cx, id: &str) -> Result<Vm, Diagnostics> {
        let vmid = id.rsplit_once('/').and_then(|(_, vmid)| vmid.parse().ok());
        let refusal = |why: String| {
            Diagnostic::error(format!("Cannot import VM {id}"))
                .happened(why)
                .holds("Nothing was recorded in the state.")
                .next("Give node and number of a VM: `pve1/120`.")
        };
        let vmid = vmid.ok_or_else(|| refusal("This is no id of a VM.".to_owned()))?;
        let found =
            locate::by_id(cx.pve()?, vmid).await.map_err(|error| explain::pve(&format!("import VM {id}"), &error))?;
        let found = found.ok_or_else(|| refusal(format!("There is no VM {vmid} that the API token may see.")))?;
        let mut m = imported(&found);
        fill::fill(&mut m, &found.settings, &BTreeSet::new());
        for disk in m.disk.get_mut().into_iter().flatten().map(|(_, disk)| disk).filter(|disk| disk.format.is_null()) {
            disk.format = Attr::imported();
        }
        power(cx, &mut m, &found, true).await?;
        endpoint(cx, &mut m).await;
        Ok(m)
    }
}

fn unseen(m: &Vm, error: &pve::Error) -> Diagnostic {
    Diagnostic::warning(format!("Cannot look at VM {}", m.id.or("")))
        .happened(format!("Its node {} does not answer: {error}.", m.current_node.or(m.node.or(""))))
        .holds("What the state says about it was kept.")
        .next("Bring the node back, and plan again.")
}

fn template(m: &Vm) -> Diagnostic {
    Diagnostic::warning(format!("VM {} is a template now", m.id.or("")))
        .happened("Somebody converted it in Proxmox VE, and a template cannot be started.")
        .holds("Its power state is left alone.")
        .next("Set `started = false` if that is what you want, or make the machine anew: `terraform apply -replace=…`.")
        .at("started")
}

/// Whether the VM runs. The cluster's list is some seconds old, so the node is asked too, once for all its VMs: what differs from the state
/// is asked for exactly, and so is a VM of which something else is to be planned. One that is paused is neither on nor off, and so a
/// difference to both.
async fn power(cx: &Cx, m: &mut Vm, found: &locate::Found, matters: bool) -> Result<(), Diagnostics> {
    let listed = match found.status.as_str() {
        "running" => Some(true),
        "stopped" => Some(false),
        _ => None,
    };
    let (client, known) = (cx.pve()?, m.started.get().copied());
    if !matters && listed.is_some() && listed == known {
        let runs = cx.runs(client, &found.node, found.vmid).await;
        if runs.is_ok_and(|runs| runs == known) {
            return Ok(());
        }
    }
    let status = client.vm(&found.node, found.vmid).status().await;
    let status = status.map_err(|error| explain::pve(&format!("read VM {}", found.vmid), &error))?;
    m.started = if status.is_paused() { Attr::Null } else { status.is_running().into() };
    Ok(())
}

/// A machine that had told no address yet may have one now.
async fn addresses(cx: &Cx, m: &mut Vm, found: &locate::Found) -> Result<(), Diagnostics> {
    let none = m.addresses.get().is_some_and(Vec::is_empty);
    if none && m.options.guest_agent.is_true() && m.started.is_true() {
        let asked = cx.pve()?.vm(&found.node, found.vmid).agent_addresses(&found.settings).await;
        // Its silence was told at the creation, and is no reason to fail every plan.
        let told = asked.unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>();
        m.addresses.set(told);
    }
    Ok(())
}

/// What an import knows before it looks, and what it can never know.
fn imported(found: &locate::Found) -> Vm {
    Vm {
        id: format!("{}/{}", found.node, found.vmid).into(),
        vmid: i64::from(found.vmid.get()).into(),
        node: found.node.to_string().into(),
        current_node: found.node.to_string().into(),
        image: Attr::imported(),
        pool: Attr::imported(),
        efi_storage: Attr::imported(),
        reboot: true.into(),
        addresses: addresses::recorded(&found.settings).into(),
        ..Vm::default()
    }
}

/// Finds the machine's agent by its addresses; its certificate must be of our CA and carry this machine's UUID.
async fn endpoint(cx: &Cx, m: &mut Vm) {
    let Some(uuid) = m.uuid.cloned() else { return };
    let mut looked = Vec::new();
    for address in m.addresses.cloned().unwrap_or_default().iter().filter_map(|text| text.parse().ok()) {
        let address = std::net::SocketAddr::new(address, trust::PORT).to_string();
        match cx.agents.identify(&address, &uuid, &looking(cx)).await {
            Ok(endpoint) => {
                origin::recall(cx, m, &endpoint).await;
                m.endpoint.set(AgentEndpoint::from(&endpoint));
                return;
            }
            Err(AgentError::NoAuthority) => return,
            Err(error) => looked.push(format!("Looking for it at {address}: {error}.")),
        }
    }
    if !looked.is_empty() {
        cx.warn(
            Diagnostic::warning(format!("The agent of VM {} was not found", m.name.or("")))
                .happened(looked.join("\n"))
                .holds("The VM is imported without an `endpoint`.")
                .next("If the machine has an agent, start it and import the VM again."),
        );
    }
}

/// How old the cluster's list may be to tell which nodes there are: as old as a refresh may be.
const LIST: Duration = Duration::from_secs(120);
