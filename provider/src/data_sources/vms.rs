//! `groundwork_vms`: the virtual machines of the cluster.
//!
//! Source: `GET /cluster/resources`, Proxmox VE 8 and 9. VMs that the token may not see are not listed; names and power states
//! may be some seconds old.

use std::collections::BTreeSet;

use tf::{Attr, DataSource, Diagnostics, Model, Row, computed, optional};

use crate::context::{Cx, Data};
use crate::explain;

/// The data source `groundwork_vms`.
pub(crate) struct VmsSource;

#[derive(Debug, Clone, Default)]
pub(crate) struct Vms {
    node: Attr<String>,
    tag: Attr<String>,
    name: Attr<String>,
    template: Attr<bool>,
    vms: Attr<Vec<Vm>>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Vm {
    vmid: Attr<i64>,
    name: Attr<String>,
    node: Attr<String>,
    status: Attr<String>,
    template: Attr<bool>,
    tags: Attr<BTreeSet<String>>,
    pool: Attr<String>,
    cpus: Attr<i64>,
    memory_mib: Attr<i64>,
}

impl Model for Vms {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { node, tag, name, template, vms } = self;
        vec![
            optional("node", node, "Lists only VMs on this node."),
            optional("tag", tag, "Lists only VMs with this tag."),
            optional("name", name, "Lists only VMs of this name."),
            optional("template", template, "Lists only templates, or only VMs that are none."),
            computed("vms", vms, "The VMs, by number."),
        ]
    }
}

impl Model for Vm {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { vmid, name, node, status, template, tags, pool, cpus, memory_mib } = self;
        vec![
            computed("vmid", vmid, "Number of the VM."),
            computed("name", name, "Its name."),
            computed("node", node, "Node it is on."),
            computed("status", status, "`running`, `stopped`, `paused` …"),
            computed("template", template, "Whether it is a template."),
            computed("tags", tags, "Its tags."),
            computed("pool", pool, "Its resource pool."),
            computed("cpus", cpus, "Its CPUs."),
            computed("memory_mib", memory_mib, "Its memory in MiB."),
        ]
    }
}

impl DataSource for VmsSource {
    type Data = Data;
    type Model = Vms;

    const NAME: &'static str = "vms";
    const DOC: &'static str = "The virtual machines of the Proxmox VE cluster.";

    async fn read(&self, cx: &Cx, m: &mut Vms) -> Result<(), Diagnostics> {
        let guests = cx.pve()?.cluster().guests().await.map_err(|error| explain::pve("read the VMs", &error))?;
        let found = guests.iter().filter(|guest| fits(m, guest)).map(vm).collect::<Vec<_>>();
        m.vms.set(found);
        Ok(())
    }
}

fn fits(m: &Vms, guest: &pve::Guest) -> bool {
    guest.kind == pve::GuestKind::Qemu
        && m.node.text().is_none_or(|node| guest.node.as_str() == node)
        && m.name.text().is_none_or(|name| guest.name.as_deref() == Some(name))
        && m.template.get().is_none_or(|template| guest.template == *template)
        && m.tag.text().is_none_or(|tag| guest.tags().iter().any(|own| own.eq_ignore_ascii_case(tag)))
}

fn vm(guest: &pve::Guest) -> Vm {
    let mut vm = Vm::default();
    vm.vmid.set(i64::from(guest.vmid.get()));
    vm.name.put(guest.name.clone());
    vm.node.set(guest.node.to_string());
    vm.status.set(guest.status.clone());
    vm.template.set(guest.template);
    vm.tags.set(guest.tags().into_iter().collect::<BTreeSet<_>>());
    vm.pool.put(guest.pool.clone());
    vm.cpus.put(guest.cpus().map(i64::from));
    vm.memory_mib.put(guest.maxmem.and_then(|bytes| i64::try_from(bytes / pve::MIB).ok()));
    vm
}
