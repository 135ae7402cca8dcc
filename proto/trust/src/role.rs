//! Roles: what stands in a client certificate, and the one table of who may call what.
//!
//! A role is a URI name (`groundwork:role:operator`) in the client's certificate. A call that is not in the table is denied,
//! and a test compares the table with the contract. Of three calls an observer gets a part only: `Plan` without guards, which are
//! programs, and without contents that no record has; `Describe` without records; and `Attach` without output. The agent's service sees
//! to that.

/// What a client may do. The role stands in its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Looks: facts, plans, status. Runs nothing of its own choice and reads no record.
    Observer,
    /// Changes machines and clusters, too.
    Operator,
    /// May enrol, update the agent, reset a cluster and read its administrator's kubeconfig, too.
    Admin,
    /// Takes etcd snapshots and nothing else.
    Backup,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Observer, Self::Operator, Self::Admin, Self::Backup];

    /// The word used in certificates and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Observer => "observer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Backup => "backup",
        }
    }

    /// The URI name that carries the role in a client certificate.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{PREFIX}{}", self.word())
    }

    /// The role that a URI name carries.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<Self> {
        Self::of_word(uri.strip_prefix(PREFIX)?)
    }

    /// The URI name by which an issuer's certificate says that this is the highest role below it.
    #[must_use]
    pub fn ceiling_uri(self) -> String {
        format!("{CEILING}{}", self.word())
    }

    /// The highest role that an issuer with these URI names may give; `None` if it names none.
    pub fn lowest_ceiling<'a>(uris: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let named = uris.into_iter().filter_map(|uri| Self::of_word(uri.strip_prefix(CEILING)?));
        named.reduce(|one, other| if one.includes(other) { other } else { one })
    }

    /// The role of this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// The lesser of two roles.
    #[must_use]
    pub fn at_most(self, other: Self) -> Self {
        if self.includes(other) { other } else { self }
    }

    /// Whether this role may make the call with this gRPC path (`/package.Service/Method`).
    #[must_use]
    pub fn may(self, path: &str) -> bool {
        needs(path).is_some_and(|need| self.includes(need.role))
    }

    /// Whether this role may do all that `other` may.
    #[must_use]
    pub fn includes(self, other: Self) -> bool {
        let rank = |role| match role {
            Self::Backup => 0,
            Self::Observer => 1,
            Self::Operator => 2,
            Self::Admin => 3,
        };
        rank(self) >= rank(other)
    }
}

const PREFIX: &str = "groundwork:role:";
const CEILING: &str = "groundwork:highest-role:";

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The least role that may make it.
    pub role: Role,
    /// Whether it is offered before the machine is enrolled (and then only before).
    pub enrolment: bool,
}

/// What the call with this gRPC path needs; `None` for a call nobody may make.
#[must_use]
pub fn needs(path: &str) -> Option<Need> {
    let call = path.strip_prefix("/groundwork.agent.v1.")?;
    CALLS
        .iter()
        .find(|(name, _)| *name == call)
        .map(|(name, role)| Need { role: *role, enrolment: name.starts_with("Enrolment/") })
}

/// THE table: call, least role.
const CALLS: [(&str, Role); 21] = [
    ("Enrolment/Enroll", Role::Admin),
    ("Agent/Describe", Role::Observer),
    ("Agent/Plan", Role::Observer),
    ("Agent/Attach", Role::Observer),
    ("Agent/ClusterStatus", Role::Observer),
    ("Agent/Apply", Role::Operator),
    ("Agent/Cancel", Role::Operator),
    ("Agent/Reboot", Role::Operator),
    ("Agent/Record", Role::Operator),
    ("Agent/ClusterInit", Role::Operator),
    ("Agent/JoinMaterial", Role::Operator),
    ("Agent/JoinEnded", Role::Operator),
    ("Agent/ClusterJoin", Role::Operator),
    ("Agent/NodeSet", Role::Operator),
    ("Agent/NodeRemove", Role::Operator),
    ("Agent/Update", Role::Admin),
    ("Agent/ReplaceAuthorities", Role::Admin),
    ("Agent/ReplaceCertificate", Role::Admin),
    ("Agent/ClusterReset", Role::Admin),
    ("Agent/ClusterLeave", Role::Admin),
    ("Agent/Kubeconfig", Role::Admin),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_holds_every_call_of_the_contract_and_no_other() {
        let contract = include_str!("../../agent/agent/v1/agent.proto");
        let mut service = "";
        let mut calls = BTreeSet::new();
        for line in contract.lines() {
            let words: Vec<&str> = line.split([' ', '(']).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                ["service", name, ..] => service = name,
                ["rpc", name, ..] => drop(calls.insert(format!("{service}/{name}"))),
                _ => {}
            }
        }
        assert_eq!(calls, CALLS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn an_unknown_call_is_denied_to_everybody() {
        for role in Role::ALL {
            for path in ["/groundwork.agent.v1.Agent/Exec", "/groundwork.agent.v2.Agent/Plan", "Agent/Plan", ""] {
                assert!(!role.may(path), "{role:?} {path}");
            }
        }
    }

    #[test]
    fn roles_grow_and_backup_stands_aside() {
        let path = |call: &str| format!("/groundwork.agent.v1.Agent/{call}");
        let may = |call: &str| Role::ALL.into_iter().filter(|role| role.may(&path(call))).collect::<Vec<_>>();
        assert_eq!(may("Plan"), [Role::Observer, Role::Operator, Role::Admin]);
        assert_eq!(may("Apply"), [Role::Operator, Role::Admin]);
        assert_eq!(may("Kubeconfig"), [Role::Admin]);
        assert!(Role::Admin.includes(Role::Operator) && !Role::Observer.includes(Role::Operator));
    }

    #[test]
    fn a_role_survives_its_uri() {
        for role in Role::ALL {
            assert_eq!(Role::of_uri(&role.uri()), Some(role));
        }
        for uri in ["groundwork:role:root", "groundwork:role:", "role:admin", "groundwork:role:admin "] {
            assert_eq!(Role::of_uri(uri), None);
        }
    }
}
