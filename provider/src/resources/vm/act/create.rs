//! Bringing a VM into being: find one that an interrupted run left, or create or clone a new one.
//!
//! A VM without a seed costs five calls, and each is here for a reason: the call that creates it, carries the mark and takes the number;
//! looks at its task, since nothing is there before its end; one read, because only Proxmox VE knows the hardware addresses and volumes
//! it chose; and the call that takes the mark off. The list of guests, which says whether somebody else made a VM of that name in the
//! same moment, is asked for beside the read and shared by all that are created then. A start costs its call, its task and one look.
//! Nothing waits for another creation. The id goes into the model before the first wait. What the call leaves is completed by `finish`.

use std::time::Duration;

use pve::{Class, Vmid};
use tf::{Diagnostic, Diagnostics};

use super::claims::{Claim, Taken};
use super::creation::{self, Creation, Made};
use super::error::{Error, Problem, both};
use super::finish::{self, Begun};
use super::holds::Holds;
use super::operation::{CREATE, Operation};
use super::{clone, earlier, new, probe, rivals, seeding};
use crate::context::Cx;
use crate::resources::vm::config;
use crate::resources::vm::locate::{self, Found};
use crate::resources::vm::model::Vm;
use crate::resources::vm::notes::{needs, slots};
use crate::timeouts::Limit;

/// Creates the VM of the model, or goes on with its creation.
pub(crate) async fn create(cx: &Cx, m: &mut Vm) -> Result<(), Diagnostics> {
    possible(m)?;
    needs::met(cx.private());
    let (name, node) = (m.name.need()?.clone(), creation::node(m)?);
    let what = m.vmid.get().map_or_else(|| name.clone(), i64::to_string);
    let limit = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), CREATE);
    let op = Operation::new(cx, format!("create VM {what} on node {node}"), limit, Holds::NothingCreated)?;
    slots::begun(cx.private());
    let ended = created(&op, m).await;
    ended.map_err(|error| op.explained(m, error))
}

/// Refuses a creation that the plan warned of.
fn possible(m: &Vm) -> Result<(), Diagnostic> {
    if !needs::is_silent(m) {
        return Ok(());
    }
    let refusal = Diagnostic::error(format!("Cannot create VM {}", m.name.or("")))
        .happened(needs::SILENT)
        .holds(Holds::NothingCreated.text())
        .next("Set `started = true`, or leave `agent` out.");
    Err(refusal.at("started"))
}

async fn created(op: &Operation<'_>, m: &mut Vm) -> Result<(), Error> {
    let name = m.name.need()?;
    let claim = Claim::take(op.client.endpoints(), name).map_err(|Taken| {
        op.now(Holds::Claimed);
        rivals::claimed(name)
    })?;
    let guests = op.client.cluster().guests_since(RECENT).await?;
    let mut creation = Creation::new(op, m, claim, guests)?;
    let (found, begun) = match earlier::unfinished(&mut creation, m).await? {
        Some(found) => {
            op.cx.progress(&format!("going on with the creation of VM {}", found.vmid));
            creation.record(m, found.vmid);
            (found, Begun::Earlier)
        }
        None => (fresh(&mut creation, m).await?, Begun::Now),
    };
    op.now(Holds::Unfinished);
    finish::finish(&op.on(found.node, found.vmid), m, found.settings, begun).await?;
    creation.claim.end();
    Ok(())
}

/// A VM that was not there before.
async fn fresh(creation: &mut Creation<'_>, m: &mut Vm) -> Result<Found, Error> {
    let op = creation.op;
    rivals::refuse(creation).await?;
    if m.is_seeded() {
        // Told together: who lacks the agents' key often lacks a privilege, too.
        both(seeding::can_be_made(op, m), seeding::can_be_kept(op, m, &creation.node).await)?;
    }
    probe::addresses_are_free(op, m).await?;
    let made = if m.clone.is_known() { clone::cloned(creation, m).await? } else { new::made(creation, m).await? };
    op.now(Holds::Unfinished);
    match made {
        Made::Done(vmid) => there(creation, m, vmid).await,
        Made::Seen(found) => Ok(found),
    }
}

/// The VM that was just made, if nobody else made one of its name in the same moment.
async fn there(creation: &Creation<'_>, m: &mut Vm, vmid: Vmid) -> Result<Found, Error> {
    let (client, node) = (&creation.op.client, &creation.node);
    let look = async {
        match client.vm(node, vmid).pending().await {
            Ok(settings) => Ok(Some(Found { node: node.clone(), vmid, status: "stopped".to_owned(), settings })),
            // Somebody moved it already.
            Err(error) if error.is(Class::NoGuest) => locate::by_id(client, vmid).await,
            Err(error) => Err(error),
        }
    };
    let (found, rival) = tokio::join!(look, rivals::of(creation, vmid));
    let (found, rival) = (found?, rival?);
    let Some(found) = found else {
        return Err(Problem::new(format!("VM {vmid} was created and is not there."), "Apply again.").into());
    };
    m.uuid.put(config::uuid(&found.settings));
    match rival {
        Some(rival) => rivals::settle(creation, m, found, rival).await,
        None => Ok(found),
    }
}

const RECENT: Duration = Duration::from_secs(5);
