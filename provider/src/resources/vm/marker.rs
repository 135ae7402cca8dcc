//! The mark of a creation that is not finished: the first line of the VM's description, sent with the create call itself.
//!
//! A provider that was killed returned nothing to Terraform. The next one in the same folder has its token, and with it knows the mark: it
//! goes on with that VM. A VM with any other mark is being created, or was left unfinished, by somebody else.

use aws_lc_rs::digest::{SHA256, digest};

use super::model::Vm;
use crate::agents::Agents;

/// The mark of one VM.
pub(super) struct Mark(String);

impl Mark {
    /// The mark of the model's VM, by whoever has this token and, if the VM gets an agent, this agents' CA.
    pub(super) fn of(m: &Vm, token: &str, agents: &Agents) -> Self {
        let owner = if m.agent.is_known() { agents.ca() } else { &[] };
        let name = m.name.text().unwrap_or_default();
        let digest =
            digest(&SHA256, &[b"groundwork_vm\0", token.as_bytes(), b"\0", name.as_bytes(), b"\0", owner].concat());
        let short = hex::encode(digest.as_ref().get(..8).unwrap_or_default());
        Self(format!("{START}({short})"))
    }

    /// The user's description with the mark before it.
    pub(super) fn on(&self, description: &str) -> String {
        format!("{}\n\n{description}", self.0).trim_end().to_owned()
    }

    /// Whether the description carries this mark.
    pub(super) fn is_in(&self, description: &str) -> bool {
        description.lines().next().is_some_and(|first| first.trim() == self.0)
    }
}

/// The user's description.
pub(super) fn without(description: &str) -> &str {
    if !description.starts_with(START) {
        return description;
    }
    description.split_once('\n').map(|(_, rest)| rest.trim_start_matches('\n')).unwrap_or_default()
}

/// Whether the description carries anybody's mark.
pub(super) fn is_any_in(description: &str) -> bool {
    description.starts_with(START)
}

const START: &str = "groundwork: creation not finished ";

#[cfg(test)]
mod tests {
    use super::super::model::Agent;
    use super::*;
    use crate::agents::Authority;

    fn vm(name: &str) -> Vm {
        Vm { name: name.into(), ..Vm::default() }
    }

    #[test]
    fn a_mark_is_put_on_recognised_and_taken_off() {
        let agents = Agents::default();
        let (own, other) = (Mark::of(&vm("cp-1"), "t", &agents), Mark::of(&vm("cp-2"), "t", &agents));
        for text in ["", "one line", "two\nlines\n\nand more"] {
            let marked = own.on(text);
            assert!(own.is_in(&marked) && is_any_in(&marked), "{marked}");
            assert!(!other.is_in(&marked));
            assert_eq!(without(&marked), text);
        }
        assert_eq!(without("groundwork is fine"), "groundwork is fine");
        assert!(!own.is_in("something else") && !is_any_in("something else"));
    }

    #[test]
    fn any_description_is_answered() {
        let mark = Mark::of(&vm("cp-1"), "t", &Agents::default());
        total::text("vm-mark", &[&mark.on("one\n\ntwo")], |text| {
            assert!(!mark.is_in(text) || is_any_in(text));
            (is_any_in(text), without(text).len())
        });
    }

    #[test]
    fn a_vm_that_was_begun_with_another_token_or_ca_is_not_ours() {
        let agents = || {
            let dir = tempfile::tempdir().unwrap();
            crate::agents::init(dir.path()).unwrap();
            Agents::new(Some(Authority::from_dir(dir.path()).unwrap()))
        };
        let m = Vm { agent: Agent::default().into(), ..vm("cp-1") };
        let (one, other) = (agents(), agents());
        let marked = Mark::of(&m, "t", &one).on("");
        assert!(Mark::of(&m, "t", &one).is_in(&marked));
        assert!(!Mark::of(&m, "t", &other).is_in(&marked) && !Mark::of(&m, "u", &one).is_in(&marked));
        assert!(Mark::of(&vm("cp-1"), "t", &one).is_in(&Mark::of(&vm("cp-1"), "t", &other).on("")), "no agent, no CA");
    }
}
