//! The attributes of `groundwork_vm`; its plain options are in `options`, disks and cards in files of their own.
//!
//! Most options are optional and computed at once: what the configuration does not give is left as it is and shown. That is what
//! makes clones keep their template's values and imports come out without a difference. Blocks cannot be: a plan has those of the
//! configuration, and what an import finds beyond them is let go.

use std::collections::BTreeMap;

use tf::check::{between, keys};
use tf::{Attr, Model, Row, Secret, block, computed, optional, optional_computed, required};

use super::cards::Network;
use super::checks;
use super::disks::Disk;
use super::effect::{Attribute, Effect, Takes};
use super::options::Options;
use crate::endpoint::AgentEndpoint;
use crate::{cidr, names, timeouts};

/// A virtual machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vm {
    pub(super) id: Attr<String>,
    pub(super) vmid: Attr<i64>,
    pub(super) node: Attr<String>,
    pub(super) name: Attr<String>,
    pub(super) description: Attr<String>,
    pub(super) image: Attr<String>,
    pub(super) clone: Attr<Clone>,
    pub(super) pool: Attr<String>,
    pub(super) efi_storage: Attr<String>,
    pub(super) options: Options,
    pub(super) disk: Attr<BTreeMap<String, Disk>>,
    pub(super) network: Attr<BTreeMap<String, Network>>,
    pub(super) cloud_init: Attr<CloudInit>,
    pub(super) agent: Attr<Agent>,
    pub(super) started: Attr<bool>,
    pub(super) reboot: Attr<bool>,
    pub(super) timeouts: Attr<Timeouts>,
    pub(super) uuid: Attr<String>,
    pub(super) current_node: Attr<String>,
    pub(super) addresses: Attr<Vec<String>>,
    pub(super) endpoint: Attr<AgentEndpoint>,
    pub(super) waiting: Attr<Vec<String>>,
    pub(super) effects: Attr<Vec<String>>,
    pub(super) lost_on_destroy: Attr<Vec<String>>,
}

impl Vm {
    /// Whether the machine is told anything on its first boot.
    pub(super) const fn is_seeded(&self) -> bool {
        self.cloud_init.is_known() || self.agent.is_known()
    }

    /// Every attribute, with what a change of it does to a machine that exists.
    pub(super) fn attributes(&mut self) -> Vec<Attribute<'_>> {
        #[rustfmt::skip]
        let Self {
            id, vmid, node, name, description, image, clone, pool, efi_storage, options, disk, network, cloud_init, agent, started, reboot,
            timeouts, uuid, current_node, addresses, endpoint, waiting, effects, lost_on_destroy,
        } = self;
        let mut all = identity([id, node, name, description], vmid);
        all.extend(options.attributes());
        all.extend(sources([image, pool, efi_storage], clone));
        all.extend([
            Attribute::new(
                block("disk", disk, "Disks: the label is the slot, `scsi0` to `scsi29`, `virtio0` to `virtio15`, `sata0` to `sata5`. One that is taken away is destroyed.")
                    .check(keys(checks::disk_slot)),
                Effect::Devices,
            ),
            Attribute::new(
                block("network", network, "Network cards: the label is the slot, `net0` to `net31`. One that is taken away is unplugged.").check(keys(checks::network_slot)),
                Effect::Devices,
            ),
            Attribute::new(
                block("cloud_init", cloud_init, "What the machine is told on its first boot, on a CD-ROM of its own. Used at creation only: a later change does nothing to a machine that lives.").first_boot(),
                Effect::Recorded,
            ),
            Attribute::new(
                block("agent", agent, "Installs Groundwork's agent on first boot and enrols it; `agent {}` takes every default. Without this, the machine is not prepared any further. Giving it to a VM that was created without makes a new machine; to an imported one it does nothing. Other changes do nothing.").first_boot(),
                Effect::Recorded,
            ),
            Attribute::new(
                optional("started", started, "Whether the VM runs. Default: `true`.").default(true),
                Effect::Power,
            ),
            Attribute::new(
                optional("reboot", reboot, "Whether a change that needs a power cycle gets one. Default: `true`. Otherwise such a change waits, and stands in `waiting`.").default(true),
                Effect::Nothing,
            ),
            Attribute::new(block("timeouts", timeouts, "How long to wait."), Effect::Nothing),
        ]);
        all.extend(found([addresses, waiting, effects, lost_on_destroy], [uuid, current_node], endpoint));
        all
    }
}

impl Model for Vm {
    fn rows(&mut self) -> Vec<Row<'_>> {
        self.attributes().into_iter().map(|attribute| attribute.row).collect()
    }
}

fn identity<'a>(
    [id, node, name, description]: [&'a mut Attr<String>; 4],
    vmid: &'a mut Attr<i64>,
) -> Vec<Attribute<'a>> {
    vec![
        Attribute::new(computed("id", id, "`<node>/<vmid>`, as the VM was created.").keep(), Effect::Nothing),
        Attribute::new(
            optional_computed("vmid", vmid, "Number of the VM, unique in the cluster. Default: the next free one.")
                .replaces()
                .check(between(100, 999_999_999)),
            Effect::Option(Takes::NewMachine),
        ),
        Attribute::new(
            required("node", node, "Node to create the VM on. Another one makes a new machine, unless the VM was moved there already, or no machine can be made there: then the plan warns, and its apply fails and leaves the machine as it is. A VM that was moved since is no difference.")
                .check(names::node),
            Effect::Moves,
        )
        .name(),
        Attribute::new(
            required("name", name, "Name, unique in the cluster, and hostname on first boot. A change renames the VM, and nothing inside it.")
                .check(checks::dns_name),
            Effect::Option(Takes::Live),
        )
        .name(),
        // Carries the mark of a creation as well.
        Attribute::new(
            optional_computed("description", description, "Free text, shown by Proxmox VE beside the VM; at most 8000 bytes.")
                .check(checks::description)
                .keep(),
            Effect::Option(Takes::Live),
        ),
    ]
}

fn sources<'a>(
    [image, pool, efi_storage]: [&'a mut Attr<String>; 3],
    clone: &'a mut Attr<Clone>,
) -> [Attribute<'a>; 4] {
    [
        Attribute::new(
            optional_computed("image", image, "Volume to copy the first disk from: a `groundwork_image`'s `volume_id`, or any volume with content `import`. The first disk is the lowest of `scsi`, then `virtio`, then `sata`. Used at creation only: a new image never replaces a machine.")
                .first_boot()
                .check(checks::volume),
            Effect::Recorded,
        )
        .name(),
        Attribute::new(
            block("clone", clone, "VM or template to copy; what a source must look like, the guide [Templates and clones](../guides/templates.md) says. Without `image` and `clone`, the VM starts with empty disks. Used at creation only.")
                .first_boot(),
            Effect::Recorded,
        ),
        Attribute::new(
            optional_computed("pool", pool, "Resource pool to create the VM in.").first_boot().keep(),
            Effect::Recorded,
        ),
        Attribute::new(
            optional_computed("efi_storage", efi_storage, "Storage of the UEFI variables, for `ovmf`. Default: the first disk's.")
                .check(names::storage)
                .first_boot(),
            Effect::Recorded,
        ),
    ]
}

fn found<'a>(
    [addresses, waiting, effects, lost_on_destroy]: [&'a mut Attr<Vec<String>>; 4],
    [uuid, current_node]: [&'a mut Attr<String>; 2],
    endpoint: &'a mut Attr<AgentEndpoint>,
) -> impl Iterator<Item = Attribute<'a>> {
    let rows = [
        computed("uuid", uuid, "SMBIOS UUID of the machine, and its cloud-init instance id.").keep(),
        computed("current_node", current_node, "Node the VM is on now.").keep(),
        computed("addresses", addresses, "Addresses of the machine: the static ones of `cloud_init`, otherwise what its guest agent said after the first boot; and the one at which `agent` was found.").keep(),
        computed("endpoint", endpoint, "The machine's agent, for `groundwork_machine`. Null without `agent`.").keep(),
        computed("waiting", waiting, "Options of the VM that wait for its next power cycle, by Proxmox VE's own names.").keep(),
        computed("effects", effects, "What the planned change does, line by line: live, with a reboot, or with a new machine. Empty again when the machine is looked at the next time.").keep(),
        computed("lost_on_destroy", lost_on_destroy, "What goes with the machine when it is destroyed or replaced, line by line: disks with their data, hardware addresses. Every plan that destroys or replaces the machine shows it, also with `-replace`.").keep(),
    ];
    rows.into_iter().map(|row| Attribute::new(row, Effect::Nothing))
}

/// What to copy.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Clone {
    pub(super) vmid: Attr<i64>,
    pub(super) name: Attr<String>,
    pub(super) tag: Attr<String>,
    pub(super) full: Attr<bool>,
    pub(super) storage: Attr<String>,
}

impl Model for Clone {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { vmid, name, tag, full, storage } = self;
        vec![
            optional("vmid", vmid, "Number of the source.").check(between(100, 999_999_999)),
            optional("name", name, "Name of the source, if only one VM has it."),
            optional(
                "tag",
                tag,
                "Tag of the source: the template with this tag on `node`, or else the only one in the cluster.",
            ),
            optional(
                "full",
                full,
                "Whether disks are copied in full. Default: `false`, they build on the template's, if the source is a template.",
            ),
            optional("storage", storage, "Storage of full copies. Default: the source's.").check(names::storage),
        ]
    }
}

/// What the machine is told on its first boot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct CloudInit {
    pub(super) user: Attr<String>,
    pub(super) ssh_keys: Attr<Vec<String>>,
    pub(super) password: Attr<Secret<String>>,
    pub(super) network: Attr<BTreeMap<String, Interface>>,
    pub(super) user_data: Attr<String>,
    pub(super) storage: Attr<String>,
    pub(super) slot: Attr<String>,
}

impl Model for CloudInit {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { user, ssh_keys, password, network, user_data, storage, slot } = self;
        vec![
            optional(
                "user",
                user,
                "Account to create. Default: `admin` if there are keys or a password, otherwise none.",
            )
            .check(checks::user),
            optional("ssh_keys", ssh_keys, "Public SSH keys of the account.").check(checks::ssh_key),
            optional("password", password, "Password of the account, plain or as a hash of crypt(3), such as `$6$…` or `$y$…`. A plain one is hashed before it goes onto the seed image.")
                .sensitive()
                .write_only(),
            block(
                "network",
                network,
                "Addresses by network card. Cards that are not named use DHCP if none is named, and nothing otherwise.",
            )
            .check(keys(checks::network_slot)),
            optional(
                "user_data",
                user_data,
                "Your own user-data beside Groundwork's, as text: a cloud-config, a script, `#include`, `#cloud-boothook`, `#part-handler`, `#cloud-config-archive`, a jinja template, or a MIME document of such parts, as `cloudinit_config` makes it with `gzip = false` and `base64_encode = false`. What it says wins over what Groundwork would add (`fqdn`, `manage_etc_hosts`, `package_update`, …), and `users` of both are made. Where a URL of `#include` does not answer, cloud-init does nothing of all this, and no agent arrives. It stands in the state and in saved plans.",
            )
            .check(checks::user_data),
            optional("storage", storage, "Storage for the seed image, with content `iso`. Default: one the node has.")
                .check(names::storage),
            optional(
                "slot",
                slot,
                "CD-ROM drive for the seed image. Default: `scsi30` on a VirtIO SCSI controller, otherwise `ide2`.",
            )
            .check(checks::seed_slot),
        ]
    }
}

/// The addresses of a network card.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Interface {
    pub(super) address: Attr<String>,
    pub(super) gateway: Attr<String>,
    pub(super) address6: Attr<String>,
    pub(super) gateway6: Attr<String>,
    pub(super) metric: Attr<i64>,
    pub(super) route: Attr<BTreeMap<String, Route>>,
    pub(super) dns: Attr<Vec<String>>,
    pub(super) search: Attr<Vec<String>>,
}

impl Model for Interface {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { address, gateway, address6, gateway6, metric, route, dns, search } = self;
        vec![
            optional("address", address, "IPv4 address with prefix length, `192.0.2.11/24`, or `dhcp`. Default: DHCP, and with a static `address6` none.")
                .check(checks::address4),
            optional("gateway", gateway, "IPv4 gateway. For an `address` with prefix length 32 it may lie outside: it is then reached over the link.").check(checks::ipv4),
            optional("address6", address6, "IPv6 address with prefix length, `2001:db8::11/64`, or `auto` (router advertisements) or `dhcp`. Default: what the image does, which is `auto` nearly everywhere.").check(checks::address6),
            optional("gateway6", gateway6, "IPv6 gateway; may be link-local, and for an `address6` with prefix length 128 may lie outside.").check(checks::ipv6),
            optional("metric", metric, "Metric of the card's default routes: where two cards have one, that of the smaller metric is taken.").check(between(1, 9999)),
            block("route", route, "Further routes of the card, by destination: `route \"198.51.100.0/24\" { via = \"192.0.2.2\" }`.").check(keys(checks::network)),
            optional("dns", dns, "Name servers.").check(checks::ip),
            optional("search", search, "Search domains."),
        ]
    }
}

/// A way to another network.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Route {
    pub(super) via: Attr<String>,
    pub(super) metric: Attr<i64>,
}

impl Model for Route {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { via, metric } = self;
        vec![
            required("via", via, "Gateway, of the same kind as the destination.").check(checks::ip),
            optional("metric", metric, "Metric. Default: the system's.").check(between(1, 9999)),
        ]
    }
}

/// How the agent is installed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Agent {
    pub(super) port: Attr<i64>,
    pub(super) address: Attr<String>,
    pub(super) allow_from: Attr<Vec<String>>,
}

impl Model for Agent {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { port, address, allow_from } = self;
        vec![
            optional("port", port, "TCP port the agent listens on. Default: 7443.").check(between(1, 65_535)),
            optional(
                "address",
                address,
                "Address under which the agent is reached from here. Default: the static ones are tried and, with `guest_agent`, all that the guest agent tells.",
            )
            .check(checks::ip),
            optional("allow_from", allow_from, "Networks and addresses from which the agent takes connections, such as `192.0.2.0/24`: all others are cut off before they are read. Default: from everywhere.")
                .check(cidr::source),
        ]
    }
}

/// How long to wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timeouts {
    pub(super) create: Attr<String>,
    pub(super) update: Attr<String>,
    pub(super) delete: Attr<String>,
}

impl Model for Timeouts {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { create, update, delete } = self;
        vec![
            optional(
                "create",
                create,
                "Until the machine is created, enrolled and through its first boot. Default: `20m`.",
            )
            .check(timeouts::check),
            optional("update", update, "Until a change is made. Default: `20m`.").check(timeouts::check),
            optional("delete", delete, "Until the machine is gone. Default: `10m`.").check(timeouts::check),
        ]
    }
}
