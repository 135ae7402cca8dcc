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
    /// Changes machines and clusters, too, and may have a passing access to a cluster made for it.
    Operator,
    /// May enrol, update the agent and take it away, reset a cluster and read its administrator's lasting kubeconfig, too.
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
    /// How its request comes.
    pub request: Request,
}

/// How the request of a call comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// As one message.
    Message,
    /// As messages one after the other.
    Stream,
}

/// What the call with this gRPC path needs; `None` for a call nobody may make.
#[must_use]
pub fn needs(path: &str) -> Option<Need> {
    let call = path.strip_prefix("/groundwork.agent.v1.")?;
    CALLS.iter().find(|(name, ..)| *name == call).map(|(name, role, request)| Need {
        role: *role,
        enrolment: name.starts_with("Enrolment/"),
        request: *request,
    })
}

/// THE table: call, least role, how the request comes.
const CALLS: [(&str, Role, Request); 41] = [
    ("Enrolment/Enroll", Role::Admin, Request::Stream),
    ("Agent/Describe", Role::Observer, Request::Message),
    ("Agent/Plan", Role::Observer, Request::Message),
    ("Agent/Attach", Role::Observer, Request::Message),
    ("Agent/ClusterStatus", Role::Observer, Request::Message),
    ("Agent/ClusterFound", Role::Observer, Request::Message),
    ("Agent/ClusterConfigStatus", Role::Observer, Request::Message),
    ("Agent/ClusterLeftovers", Role::Observer, Request::Message),
    ("Agent/ManifestStatus", Role::Observer, Request::Message),
    ("Agent/EtcdSnapshotStatus", Role::Observer, Request::Message),
    ("Agent/Apply", Role::Operator, Request::Message),
    ("Agent/Cancel", Role::Operator, Request::Message),
    ("Agent/Reboot", Role::Operator, Request::Message),
    ("Agent/Record", Role::Operator, Request::Message),
    ("Agent/ClusterInit", Role::Operator, Request::Message),
    ("Agent/JoinMaterial", Role::Operator, Request::Message),
    ("Agent/JoinEnded", Role::Operator, Request::Message),
    ("Agent/ClusterJoin", Role::Operator, Request::Message),
    ("Agent/ClusterUpgrade", Role::Operator, Request::Message),
    ("Agent/UpgradeOffer", Role::Operator, Request::Message),
    ("Agent/ClusterConfigure", Role::Operator, Request::Message),
    ("Agent/NodeSet", Role::Operator, Request::Message),
    ("Agent/NodeRemove", Role::Operator, Request::Message),
    ("Agent/ManifestApply", Role::Operator, Request::Message),
    ("Agent/ManifestRemove", Role::Operator, Request::Message),
    ("Agent/ClusterCredential", Role::Operator, Request::Message),
    ("Agent/EtcdSnapshotTake", Role::Operator, Request::Message),
    ("Agent/EtcdSnapshotKeep", Role::Operator, Request::Message),
    ("Agent/EtcdSnapshotRemove", Role::Operator, Request::Message),
    ("Agent/EtcdSnapshotSchedule", Role::Operator, Request::Message),
    ("Agent/CertificatesRenew", Role::Operator, Request::Message),
    ("Agent/QuorumRecover", Role::Admin, Request::Message),
    ("Agent/Update", Role::Admin, Request::Stream),
    ("Agent/ReplaceAuthorities", Role::Admin, Request::Message),
    ("Agent/NextKey", Role::Admin, Request::Message),
    ("Agent/ReplaceCertificate", Role::Admin, Request::Message),
    ("Agent/Uninstall", Role::Admin, Request::Message),
    ("Agent/ClusterReset", Role::Admin, Request::Message),
    ("Agent/ClusterAdopt", Role::Admin, Request::Message),
    ("Agent/ClusterLeave", Role::Admin, Request::Message),
    ("Agent/Kubeconfig", Role::Admin, Request::Message),
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
            let (name, streams) = match words.as_slice() {
                ["service", name, ..] => {
                    service = name;
                    continue;
                }
                ["rpc", name, "stream", ..] => (name, true),
                ["rpc", name, ..] => (name, false),
                _ => continue,
            };
            calls.insert((format!("{service}/{name}"), streams));
        }
        let table = CALLS.iter().map(|(name, _, request)| ((*name).to_owned(), *request == Request::Stream));
        assert_eq!(calls, table.collect());
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
        assert_eq!(may("ClusterCredential"), [Role::Operator, Role::Admin]);
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
