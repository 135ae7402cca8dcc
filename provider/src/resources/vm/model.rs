//! The attributes of `groundwork_vm`.
//!
//! Most options are optional and computed at once: what the configuration does not give is left as it is and shown. That is what
//! makes clones keep their template's values and imports come out without a difference. Blocks cannot be: a plan has those of the
//! configuration, and what an import finds beyond them is let go.

use std::collections::{BTreeMap, BTreeSet};

use tf::check::{between, keys, one_of};
use tf::{Attr, Model, Row, Secret, block, computed, optional, optional_computed, required};

use super::checks;
use crate::{names, timeouts};

/// A virtual machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Vm {
    pub(super) id: Attr<String>,
    pub(super) vmid: Attr<i64>,
    pub(super) node: Attr<String>,
    pub(super) name: Attr<String>,
    pub(super) description: Attr<String>,
    pub(super) tags: Attr<BTreeSet<String>>,
    pub(super) image: Attr<String>,
    pub(super) clone: Attr<Clone>,
    pub(super) pool: Attr<String>,
    pub(super) cores: Attr<i64>,
    pub(super) sockets: Attr<i64>,
    pub(super) cpu_type: Attr<String>,
    pub(super) memory_mib: Attr<i64>,
    pub(super) firmware: Attr<String>,
    pub(super) efi_storage: Attr<String>,
    pub(super) on_boot: Attr<bool>,
    pub(super) guest_agent: Attr<bool>,
    pub(super) serial_console: Attr<bool>,
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
}

impl Model for Vm {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            id, vmid, node, name, description, tags, image, clone, pool, cores, sockets, cpu_type, memory_mib, firmware, efi_storage,
            on_boot, guest_agent, serial_console, disk, network, cloud_init, agent, started, reboot, timeouts, uuid, current_node,
            addresses, endpoint, waiting, effects, lost_on_destroy,
        } = self;
        let mut rows = identity(id, vmid, node, name);
        rows.extend([
            optional_computed(
                "description",
                description,
                "Free text, shown by Proxmox VE beside the VM; at most 8000 bytes.",
            )
            .check(checks::description)
            .keep(),
            optional_computed("tags", tags, "Tags. Proxmox VE keeps them in lower case.").check(checks::tag).keep(),
            optional_computed("pool", pool, "Resource pool to create the VM in.").first_boot().keep(),
        ]);
        rows.extend(sources(image, clone));
        rows.extend(hardware(cores, sockets, cpu_type, memory_mib));
        rows.extend(devices([firmware, efi_storage], [guest_agent, serial_console], disk, network));
        rows.extend([
            optional_computed("on_boot", on_boot, "Whether the node starts the VM when it boots. Default for new VMs: `false`.").keep(),
            block("cloud_init", cloud_init, "What the machine is told on its first boot, on a CD-ROM of its own. Used at creation only: a later change does nothing to a machine that lives.").first_boot(),
            block("agent", agent, "Installs Groundwork's agent on first boot and enrols it; `agent {}` takes every default. Without this, the machine is not prepared any further. Giving it to a VM that was created without makes a new machine; to an imported one it does nothing. Other changes do nothing.").first_boot(),
            optional("started", started, "Whether the VM runs. Default: `true`.").default(true),
            optional("reboot", reboot, "Whether a change that needs a power cycle gets one. Default: `true`. Otherwise such a change waits, and stands in `waiting`.").default(true),
            block("timeouts", timeouts, "How long to wait."),
        ]);
        rows.extend(found([addresses, waiting, effects, lost_on_destroy], [uuid, current_node], endpoint));
        rows
    }
}

fn identity<'a>(
    id: &'a mut Attr<String>,
    vmid: &'a mut Attr<i64>,
    node: &'a mut Attr<String>,
    name: &'a mut Attr<String>,
) -> Vec<Row<'a>> {
    vec![
        computed("id", id, "`<node>/<vmid>`, as the VM was created.").keep(),
        optional_computed("vmid", vmid, "Number of the VM, unique in the cluster. Default: the next free one.")
            .replaces()
            .check(between(100, 999_999_999)),
        required("node", node, "Node to create the VM on. Another one makes a new machine, unless the VM was moved there already, or no machine can be made there: then the plan warns, and its apply fails and leaves the machine as it is. A VM that was moved since is no difference.")
            .check(names::node),
        required("name", name, "Name, unique in the cluster, and hostname on first boot. A change renames the VM, and nothing inside it.").check(checks::dns_name),
    ]
}

fn sources<'a>(image: &'a mut Attr<String>, clone: &'a mut Attr<Clone>) -> [Row<'a>; 2] {
    [
        optional_computed("image", image, "Volume to copy the first disk from: a `groundwork_image`'s `volume_id`, or any volume with content `import`. The first disk is the lowest of `scsi`, then `virtio`, then `sata`. Used at creation only: a new image never replaces a machine.")
            .first_boot()
            .check(checks::volume),
        block("clone", clone, "VM or template to copy; what a source must look like, the guide [Templates and clones](../guides/templates.md) says. Without `image` and `clone`, the VM starts with empty disks. Used at creation only.")
            .first_boot(),
    ]
}

fn hardware<'a>(
    cores: &'a mut Attr<i64>,
    sockets: &'a mut Attr<i64>,
    cpu_type: &'a mut Attr<String>,
    memory_mib: &'a mut Attr<i64>,
) -> [Row<'a>; 4] {
    [
        optional_computed("cores", cores, "Cores per socket. Default for new VMs: 1. A change needs a reboot.").check(between(1, 1024)).keep(),
        optional_computed("sockets", sockets, "CPU sockets. Default for new VMs: 1. A change needs a reboot.").check(between(1, 16)).keep(),
        optional_computed("cpu_type", cpu_type, "CPU model and flags, such as `host` or `x86-64-v2-AES,flags=+aes`. Default for new VMs: `x86-64-v2-AES`. A change needs a reboot.")
            .check(checks::cpu)
            .keep(),
        optional_computed("memory_mib", memory_mib, "Memory in MiB. Default for new VMs: 512. A change needs a reboot, unless the VM's `hotplug` has `memory`.").check(checks::memory).keep(),
    ]
}

fn devices<'a>(
    [firmware, efi_storage]: [&'a mut Attr<String>; 2],
    [guest_agent, serial_console]: [&'a mut Attr<bool>; 2],
    disk: &'a mut Attr<BTreeMap<String, Disk>>,
    network: &'a mut Attr<BTreeMap<String, Network>>,
) -> Vec<Row<'a>> {
    vec![
        optional_computed("firmware", firmware, "`seabios` or `ovmf` (UEFI). Default for new VMs: `seabios`. Another one needs a new machine.")
            .check(one_of(&["seabios", "ovmf"]))
            .replaces(),
        optional_computed("efi_storage", efi_storage, "Storage of the UEFI variables, for `ovmf`. Default: the first disk's.")
            .check(names::storage)
            .first_boot(),
        optional_computed("guest_agent", guest_agent, "Whether the VM has a channel for QEMU's guest agent, which the image must carry. Default for new VMs: `false`. A change needs a reboot.").keep(),
        optional_computed("serial_console", serial_console, "Whether the VM has a serial console, `serial0`. Default for new VMs: `true`. A change needs a reboot.").keep(),
        block("disk", disk, "Disks: the label is the slot, `scsi0` to `scsi29`, `virtio0` to `virtio15`, `sata0` to `sata5`. One that is taken away is destroyed.")
            .check(keys(checks::disk_slot)),
        block("network", network, "Network cards: the label is the slot, `net0` to `net31`. One that is taken away is unplugged.").check(keys(checks::network_slot)),
    ]
}

fn found<'a>(
    [addresses, waiting, effects, lost_on_destroy]: [&'a mut Attr<Vec<String>>; 4],
    [uuid, current_node]: [&'a mut Attr<String>; 2],
    endpoint: &'a mut Attr<AgentEndpoint>,
) -> [Row<'a>; 7] {
    [
        computed("uuid", uuid, "SMBIOS UUID of the machine, and its cloud-init instance id.").keep(),
        computed("current_node", current_node, "Node the VM is on now.").keep(),
        computed("addresses", addresses, "Addresses of the machine: the static ones of `cloud_init`, otherwise what its guest agent said after the first boot.").keep(),
        computed("endpoint", endpoint, "The machine's agent, for `groundwork_machine`. Null without `agent`.").keep(),
        computed("waiting", waiting, "Options of the VM that wait for its next power cycle, by Proxmox VE's own names.").keep(),
        computed("effects", effects, "What the last planned change does, line by line: live, with a reboot, or with a new machine.").keep(),
        computed("lost_on_destroy", lost_on_destroy, "What goes with the machine when it is destroyed or replaced, line by line: disks with their data, hardware addresses. Every plan that destroys or replaces the machine shows it, also with `-replace`.").keep(),
    ]
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

/// A disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Disk {
    pub(super) storage: Attr<String>,
    pub(super) size_gib: Attr<i64>,
    pub(super) format: Attr<String>,
    pub(super) discard: Attr<bool>,
    pub(super) ssd: Attr<bool>,
    pub(super) iothread: Attr<bool>,
    pub(super) backup: Attr<bool>,
    pub(super) cache: Attr<String>,
    pub(super) serial: Attr<String>,
    pub(super) volume: Attr<String>,
}

impl Model for Disk {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { storage, size_gib, format, discard, ssd, iothread, backup, cache, serial, volume } = self;
        vec![
            required("storage", storage, "Storage of the disk. Another one needs a new machine.").check(names::storage),
            optional_computed("size_gib", size_gib, "Size in GiB. It can grow, while the machine runs, and never shrink: an apply that would shrink a disk fails before it changes anything. Default: the image's or the template's, and 8 for an empty disk.")
                .check(between(1, 131_072))
                .keep(),
            optional_computed("format", format, "`raw`, `qcow2` or `vmdk`, on storages that have files. Default: the storage's. Used at creation only.")
                .check(one_of(&["raw", "qcow2", "vmdk"]))
                .first_boot(),
            optional_computed("discard", discard, "Whether the guest's discards free space. Default: `false`. A change needs a reboot.").keep(),
            optional_computed("ssd", ssd, "Whether the guest sees an SSD; not on `virtio`. Default: `false`. A change needs a reboot.").keep(),
            optional_computed("iothread", iothread, "Whether the disk has a thread of its own; not on `sata`. Default: `false`. A change needs a reboot.").keep(),
            optional_computed("backup", backup, "Whether backups contain the disk. Default: `true`.").keep(),
            optional_computed("cache", cache, "Cache mode: `none`, `writethrough`, `writeback`, `unsafe` or `directsync`. Default: Proxmox VE's, which is `none`. A change needs a reboot.")
                .check(one_of(&["none", "writethrough", "writeback", "unsafe", "directsync"]))
                .keep(),
            optional_computed("serial", serial, "Serial number the guest sees, as in `/dev/disk/by-id/`; at most 20 letters, digits, `-` and `_`. A change needs a reboot.")
                .check(checks::serial)
                .keep(),
            computed("volume", volume, "Volume of the disk.").keep(),
        ]
    }
}

/// A network card.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Network {
    pub(super) bridge: Attr<String>,
    pub(super) model: Attr<String>,
    pub(super) mac: Attr<String>,
    pub(super) vlan: Attr<i64>,
    pub(super) firewall: Attr<bool>,
    pub(super) mtu: Attr<i64>,
}

impl Model for Network {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { bridge, model, mac, vlan, firewall, mtu } = self;
        vec![
            required("bridge", bridge, "Bridge or SDN network to attach to.").check(checks::bridge),
            optional_computed("model", model, "Model of the card. Default: `virtio`.").check(checks::card).keep(),
            optional_computed("mac", mac, "Hardware address. Default: one that Proxmox VE makes, and that the card keeps, even when somebody takes it away and the next apply brings it back. A change cuts off a guest whose network settings name the card by its address, as those of cloud-init do.")
                .check(checks::mac)
                .keep(),
            optional_computed("vlan", vlan, "VLAN tag.").check(between(1, 4094)).keep(),
            optional_computed(
                "firewall",
                firewall,
                "Whether Proxmox VE's firewall filters the card. Default: `false`.",
            )
            .keep(),
            optional_computed("mtu", mtu, "MTU of a `virtio` card; 1 takes the bridge's.")
                .check(between(1, 65_520))
                .keep(),
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
    pub(super) dns: Attr<Vec<String>>,
    pub(super) search: Attr<Vec<String>>,
}

impl Model for Interface {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { address, gateway, address6, gateway6, dns, search } = self;
        vec![
            optional("address", address, "IPv4 address with prefix length, `192.0.2.11/24`. Default: DHCP.")
                .check(checks::cidr4),
            optional("gateway", gateway, "IPv4 gateway. For an `address` with prefix length 32 it may lie outside: it is then reached over the link.").check(checks::ipv4),
            optional("address6", address6, "IPv6 address with prefix length, `2001:db8::11/64`.").check(checks::cidr6),
            optional("gateway6", gateway6, "IPv6 gateway; may be link-local, and for an `address6` with prefix length 128 may lie outside.").check(checks::ipv6),
            optional("dns", dns, "Name servers.").check(checks::ip),
            optional("search", search, "Search domains."),
        ]
    }
}

/// How the agent is installed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Agent {
    pub(super) port: Attr<i64>,
    pub(super) address: Attr<String>,
}

impl Model for Agent {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { port, address } = self;
        vec![
            optional("port", port, "TCP port the agent listens on. Default: 7443.").check(between(1, 65_535)),
            optional(
                "address",
                address,
                "Address under which the agent is reached from here. Default: the first static one.",
            )
            .check(checks::ip),
        ]
    }
}

/// Where the agent is and how it is recognised. The same object as in `groundwork_machine`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct AgentEndpoint {
    pub(super) address: Attr<String>,
    pub(super) fingerprint: Attr<String>,
}

impl Model for AgentEndpoint {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { address, fingerprint } = self;
        vec![
            computed("address", address, "Address and port.").keep(),
            computed("fingerprint", fingerprint, "SHA-256 of the agent's public key.").keep(),
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
