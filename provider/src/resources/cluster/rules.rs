//! What values of `groundwork_cluster` must be like, alone and together. Values that are not known yet are asked again later.

use super::model::{Cluster, Member};
use super::{k3s, manifests, networks, quorum, recovery, vip};
use crate::agents::form;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use tf::check::Verdict;
use tf::{Diagnostic, Diagnostics, Path};

/// `host` or `host:port`. kubeadm takes a missing port for the API server's own, 6443. Source: kubeadm, `controlPlaneEndpoint`.
pub(super) fn api_endpoint(text: &str) -> Verdict {
    let is_name_and_port =
        |(name, port): (&str, &str)| form::dns_name(name).is_ok() && port.parse::<NonZeroU16>().is_ok();
    let is_address_and_port = text.parse::<SocketAddr>().is_ok_and(|address| address.port() > 0);
    if is_host(text) || is_address_and_port || text.rsplit_once(':').is_some_and(is_name_and_port) {
        return Ok(());
    }
    Err("must be `host` or `host:port`, such as `api.example.org:6443` or `[2001:db8::10]:6443`, and no URL".to_owned())
}

fn is_host(text: &str) -> bool {
    form::address(text).is_ok() || form::dns_name(text).is_ok()
}

pub(super) fn problems(m: &Cluster) -> Diagnostics {
    let mut found = Diagnostics::new();
    found.extend(number_of_control_planes(m));
    found.extend(no_common_endpoint(m));
    found.extend(names_of_two(m));
    found.extend(machines_of_two(m));
    found.extend(strangers_first(m));
    found.extend(networks::problems(m));
    found.extend(k3s::problems(m));
    found.extend(vip::problems(m));
    found.extend(quorum::problem(m));
    found.extend(recovery::problem(m));
    found.extend(manifests::problems(m));
    found
}

/// etcd agrees by a majority: an even number bears no more failures than the odd one below it.
fn number_of_control_planes(m: &Cluster) -> Option<Diagnostic> {
    let number = m.control_planes.get()?.len();
    let told = match number {
        1 | 3 | 5 => return None,
        0 => {
            return Some(
                Diagnostic::error("Cannot make a cluster without a control plane")
                    .happened("`control_planes` is empty.")
                    .next("Give it one machine, or three.")
                    .at("control_planes"),
            );
        }
        2 => "Of two, etcd needs both: one that fails stops the cluster, and there are two that can.".to_owned(),
        _ if number.is_multiple_of(2) => format!(
            "Of {number}, etcd needs {}: {} may fail, as many as of {}, and there is one more that can.",
            number / 2 + 1,
            (number - 1) / 2,
            number - 1
        ),
        _ => format!(
            "Of {number}, etcd waits for {} with every change: it becomes slower, and no safer than five.",
            number / 2 + 1
        ),
    };
    Some(
        Diagnostic::warning(format!("{number} control planes"))
            .happened(told)
            .next("Give the cluster 1, 3 or 5 of them. While one is being replaced another number is as it should be.")
            .at("control_planes"),
    )
}

/// Nodes and users must reach whichever is well.
fn no_common_endpoint(m: &Cluster) -> Option<Diagnostic> {
    let several = m.control_planes.get()?.len() > 1 && m.endpoint.is_null() && m.kube_vip.is_null();
    let (why, next) = if let Some(own) = k3s::of(m) {
        let port =
            own.supervisor.map(|port| format!(", with the port {port} too, where nodes join")).unwrap_or_default();
        (
            "Without `endpoint` all nodes and users would reach the first one alone, and nobody could join once that is gone.",
            format!(
                "Set `endpoint` to a name or an address that leads to all of them, such as that of a load balancer{port}. It cannot be added to a cluster later."
            ),
        )
    } else {
        (
            "Without `endpoint` all nodes and users would reach the first one alone, and kubeadm lets no other join.",
            "Set `endpoint` to a name or an address that leads to all of them, such as that of a load balancer, or add a `kube_vip` block with a free address of their network. Neither can be added to a cluster later.".to_owned(),
        )
    };
    several.then(|| {
        Diagnostic::error("Cannot use several control planes without an endpoint of their own")
            .happened(why)
            .next(next)
            .at("endpoint")
    })
}

fn names_of_two(m: &Cluster) -> Vec<Diagnostic> {
    let workers = m.workers.get();
    let control_planes = m.control_planes.get().into_iter().flat_map(|members| members.keys());
    let twice = control_planes.filter(|name| workers.is_some_and(|members| members.contains_key(*name)));
    let problem = |name: &String| {
        Diagnostic::error(format!("Cannot use node name {name} twice"))
            .happened("It is a control plane and a worker.")
            .next("Give each node a name of its own.")
            .at(Path::from("workers").key(name))
    };
    twice.map(problem).collect()
}

/// A name that no worker has is misspelt, or forgotten: the worker that was meant would not go first.
fn strangers_first(m: &Cluster) -> Vec<Diagnostic> {
    let none = std::collections::BTreeMap::new();
    let workers = if m.workers.is_null() { Some(&none) } else { m.workers.get() };
    let Some(workers) = workers else { return Vec::new() };
    let first = m.upgrade_first.or(Vec::new());
    let problem = |name: String| {
        Diagnostic::error(format!("Cannot upgrade {name} first"))
            .happened("No worker has this name.")
            .next("Give names that stand in `workers`.")
            .at("upgrade_first")
    };
    first.into_iter().filter(|name| !workers.contains_key(name)).map(problem).collect()
}

/// A machine can be one node only.
fn machines_of_two(m: &Cluster) -> Vec<Diagnostic> {
    let attributes = [("control_planes", &m.control_planes), ("workers", &m.workers)];
    let members = attributes.into_iter().flat_map(|(attribute, members)| {
        let members = members.get().into_iter().flatten();
        members.map(move |(name, member)| (Path::from(attribute).key(name), member))
    });
    let all: Vec<(Path, &Member)> = members.collect();
    let second = |(at, (path, member)): (usize, &(Path, &Member))| {
        let (first, _) = all.iter().take(at).find(|(_, other)| same_machine(member, other))?;
        Some(
            Diagnostic::error(format!("Cannot use the machine of {path}"))
                .happened(format!("It is the machine of {first} too."))
                .next("Give each node a machine of its own.")
                .at(path.name("endpoint")),
        )
    };
    all.iter().enumerate().filter_map(second).collect()
}

fn same_machine(one: &Member, other: &Member) -> bool {
    let (Some(one), Some(other)) = (one.endpoint.get(), other.endpoint.get()) else { return false };
    let address = one.address.is_known() && one.address == other.address;
    address || one.fingerprint.is_known() && one.fingerprint == other.fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointModel;
    use std::collections::BTreeMap;
    use tf::Attr;

    #[track_caller]
    fn check(rule: fn(&str) -> Verdict, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Ok(()), "{text}");
        }
        for text in bad {
            assert!(rule(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_is_a_host_with_or_without_a_port() {
        check(
            api_endpoint,
            &[
                "192.0.2.10",
                "192.0.2.10:6443",
                "api.example.org",
                "api.example.org:8443",
                "[2001:db8::10]:6443",
                "2001:db8::10",
            ],
            &["", "https://api.example.org:6443", "api:", "api:0", "api:70000", "[::1]", "a b:1", ":6443"],
        );
    }

    #[test]
    fn any_text_and_record_is_answered() {
        total::text("api-endpoint", &["[2001:db8::10]:6443", "api.example.org:8443"], api_endpoint);
        let good = r#"{"name":"a","version":"1.36.3","workers":{"w":{"endpoint":{"address":"192.0.2.1:7443","fingerprint":"a"},"labels":{"a":"b"}}}}"#;
        total::text("cluster-record", &[good], crate::record::read::<Cluster>);
    }

    #[track_caller]
    fn check_paths(m: &Cluster, wanted: &[&str]) {
        let found = problems(m);
        let paths: Vec<_> = found.iter().filter_map(Diagnostic::path).map(ToString::to_string).collect();
        assert_eq!(paths, wanted);
    }

    fn member(address: &str, fingerprint: Attr<String>) -> Member {
        Member { endpoint: EndpointModel { address: address.into(), fingerprint }.into(), ..Member::default() }
    }

    #[test]
    fn a_machine_is_one_node() {
        let one = |name: &str, member| Attr::Known(BTreeMap::from([(name.to_owned(), member)]));
        let check = |worker, member, wanted: &[&str]| {
            let control_planes = one("cp-1", self::member("192.0.2.11:7443", "a".into()));
            check_paths(&Cluster { control_planes, workers: one(worker, member), ..Cluster::default() }, wanted);
        };
        check("w", member("192.0.2.12:7443", Attr::Unknown), &[]);
        check("w", member("192.0.2.12:7443", "a".into()), &[r#"workers["w"].endpoint"#]);
        check("w", member("192.0.2.11:7443", Attr::Unknown), &[r#"workers["w"].endpoint"#]);
        check("cp-1", member("192.0.2.12:7443", "b".into()), &[r#"workers["cp-1"]"#]);
    }

    #[test]
    fn several_control_planes_are_an_odd_number_and_have_an_endpoint() {
        let with = |number: usize, endpoint: Attr<String>| {
            let names = (1..=number).map(|at| (format!("cp-{at}"), Member::default()));
            Cluster { control_planes: names.collect::<BTreeMap<_, _>>().into(), endpoint, ..Cluster::default() }
        };
        let api = || Attr::from("api.example.org");
        for number in [1, 3, 5] {
            check_paths(&with(number, api()), &[]);
        }
        for number in [0, 2, 4, 6, 7] {
            check_paths(&with(number, api()), &["control_planes"]);
        }
        check_paths(&with(1, Attr::Null), &[]);
        check_paths(&with(3, Attr::Null), &["endpoint"]);
        check_paths(&with(3, Attr::Unknown), &[]);
        let servers = Cluster { distribution: "k3s".into(), ..with(3, Attr::Null) };
        let said = no_common_endpoint(&servers).unwrap().to_string();
        assert!(!said.contains("kubeadm") && !said.contains("kube_vip"), "{said}");
        let servers = Cluster { distribution: "rke2".into(), ..servers };
        assert!(no_common_endpoint(&servers).unwrap().to_string().contains("the port 9345 too"));
        let vip = vip::KubeVip { address: "192.0.2.10".into(), ..Default::default() };
        check_paths(&Cluster { kube_vip: vip.into(), ..with(3, Attr::Null) }, &[]);
        let said = problems(&with(4, api()));
        assert!(said.iter().all(|one| one.severity() == tf::Severity::Warning), "it may be while one is replaced");
        let said = said.iter().map(ToString::to_string).collect::<String>();
        assert!(said.contains("Of 4, etcd needs 3: 1 may fail, as many as of 3"), "{said}");
    }

    #[test]
    fn only_a_worker_is_upgraded_first() {
        let workers = Attr::Known(BTreeMap::from([("worker-7".to_owned(), Member::default())]));
        let m = |first: &str, workers| Cluster {
            upgrade_first: vec![first.to_owned()].into(),
            workers,
            ..Cluster::default()
        };
        check_paths(&m("worker-7", workers.clone()), &[]);
        check_paths(&m("worker-8", Attr::Unknown), &[]);
        check_paths(&m("worker-8", workers), &["upgrade_first"]);
        check_paths(&m("worker-8", Attr::Null), &["upgrade_first"]);
    }
}
