//! What a planned machine will need, noted for whoever destroys another one in its place.
//!
//! Terraform destroys the old machine first, and does not say that it does so to make a new one. But the destroying call gets the
//! private values that the plan of the *new* machine stored: so every plan of a creation stores what it needs, the creation itself
//! throws that away, and a destruction that finds it is the first half of a replacement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tf::Private;

use crate::resources::vm::disks;
use crate::resources::vm::model::Vm;

/// What a planned machine needs, as far as the plan knew it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Needs {
    pub(crate) node: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) vmid: Option<i64>,
    /// Storage by slot.
    pub(crate) disks: BTreeMap<String, String>,
    pub(crate) efi: Option<String>,
    pub(crate) image: Option<String>,
    /// Slot and size in GiB of the disk that is made of it.
    pub(crate) from_image: Option<(String, i64)>,
    /// Bridge by slot.
    pub(crate) cards: BTreeMap<String, String>,
    pub(crate) seed: bool,
    pub(crate) seed_storage: Option<String>,
    /// An agent in a machine that will not run.
    pub(crate) silent_agent: bool,
}

/// Notes what a planned machine needs.
pub(crate) fn plan(private: &Private, m: &Vm) {
    let storages =
        m.disk.get().into_iter().flatten().filter_map(|(slot, disk)| Some((slot.clone(), disk.storage.cloned()?)));
    let bridges =
        m.network.get().into_iter().flatten().filter_map(|(slot, card)| Some((slot.clone(), card.bridge.cloned()?)));
    let all = disks::of(m);
    let from_image = disks::first(&all).and_then(|slot| Some((slot.to_owned(), all.get(slot)?.size_gib.cloned()?)));
    let needs = Needs {
        node: m.node.cloned(),
        name: m.name.cloned(),
        vmid: m.vmid.cloned(),
        disks: storages.collect(),
        efi: m.efi_storage.cloned(),
        image: m.image.cloned(),
        from_image,
        cards: bridges.collect(),
        seed: m.is_seeded(),
        seed_storage: m.cloud_init.get().and_then(|cloud_init| cloud_init.storage.cloned()),
        silent_agent: is_silent(m),
    };
    private.set(NEEDS, &needs);
}

/// What the new machine needs in whose place another one is destroyed; none if that one goes for good. Said once: what is left of the
/// private values after a refusal is kept with the old machine, which may then be destroyed for good.
pub(crate) fn take(private: &Private) -> Option<Needs> {
    let needs = private.get(NEEDS)?;
    met(private);
    Some(needs)
}

/// The machine is made now, and nothing is destroyed for it.
pub(crate) fn met(private: &Private) {
    private.remove(NEEDS);
}

/// An agent is enrolled on a machine that runs.
pub(crate) fn is_silent(m: &Vm) -> bool {
    m.agent.is_known() && m.started.get() == Some(&false)
}

/// Said by the plan, and by whatever is to make such a machine.
pub(crate) const SILENT: &str =
    "The agent can only be enrolled on a machine that runs: create it with `started = true`, and stop it later.";

/// Key in the private values of a planned creation.
const NEEDS: &str = "needs";
