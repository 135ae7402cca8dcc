//! Bad values and the attributes they are named by.

use super::*;
use crate::fields;
use serde_json::{Map, Value};

fn problems(text: &str) -> Vec<Problem> {
    check(&serde_json::from_str(text).unwrap())
}

#[track_caller]
fn bad(text: &str, path: &str) {
    let paths: Vec<_> = problems(text).iter().map(|problem| problem.at.to_string()).collect();
    assert!(paths.iter().any(|found| found == path), "{paths:?}");
}

#[test]
fn a_bad_value_is_named_by_its_path() {
    bad(r#"{"hostname": "Node_1"}"#, "hostname");
    bad(r#"{"host": {"10.0.0": {"names": ["a"]}}}"#, r#"host["10.0.0"]"#);
    bad(r#"{"host": {"10.0.0.1": {}}}"#, r#"host["10.0.0.1"].names"#);
    bad(r#"{"sysctls": {"nonsense": "1"}}"#, r#"sysctls["nonsense"]"#);
    bad(r#"{"sysctls": {"a.b": "1\n2"}}"#, r#"sysctls["a.b"]"#);
    bad(r#"{"kernel_modules": ["a b"]}"#, "kernel_modules[0]");
    bad(r#"{"package": {"vim": {"version": "-oDebug=1"}}}"#, r#"package["vim"].version"#);
    bad(r#"{"package": {"-f": {}}}"#, r#"package["-f"]"#);
    bad(r#"{"repository": {"x": {"url": "ftp://x", "trusted": true}}}"#, r#"repository["x"].url"#);
    bad(r#"{"file": {"/etc/../x": {"content": ""}}}"#, r#"file["/etc/../x"]"#);
    bad(r#"{"file": {"/x": {"content": "", "mode": "0999"}}}"#, r#"file["/x"].mode"#);
    bad(r#"{"service": {"x": {"restart_on": ["/x", "etc/x"]}}}"#, r#"service["x"].restart_on[1]"#);
    bad(r#"{"filesystem": {"/dev/sdb": {"kind": "ext4"}}}"#, r#"filesystem["/dev/sdb"]"#);
    bad(r#"{"filesystem": {"/dev/disk/by-id/x": {"kind": "zfs"}}}"#, r#"filesystem["/dev/disk/by-id/x"].kind"#);
    bad(r#"{"mount": {"/": {"source": "/dev/x"}}}"#, r#"mount["/"]"#);
    bad(r#"{"command": {"x": {"argv": ["true"], "creates": "/x"}}}"#, r#"command["x"].argv"#);
    bad(
        r#"{"container_runtime": {"registry": {"x": {"mirrors": ["x"]}}}}"#,
        r#"container_runtime.registry["x"].mirrors[0]"#,
    );
    bad(r#"{"kubernetes": {"version": "1.28"}}"#, "kubernetes.version");
    bad(r#"{"kubernetes": {"version": "1.28.4", "repository": {"url": "x"}}}"#, "kubernetes.repository.url");
    bad(r#"{"swap": "on"}"#, "swap");
}

/// The problem of values that do not go together is one, and it names all that take part.
#[track_caller]
fn clash(text: &str, path: &str, seen: &[&str]) {
    let problems = problems(text);
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert_eq!(problem.at.to_string(), path);
    let looked: Vec<_> = problem.seen.iter().map(ToString::to_string).collect();
    // The element that they all belong to.
    let element = &path[..=path.find(']').unwrap()];
    assert_eq!(looked, seen.iter().map(|name| format!("{element}.{name}")).collect::<Vec<_>>());
}

#[track_caller]
fn fine(text: &str) {
    assert_eq!(problems(text), []);
}

#[test]
fn a_repository_needs_a_key_or_trust() {
    let proof = ["key_pem", "key_url", "trusted", "absent"];
    clash(r#"{"repository": {"x": {"url": "http://x"}}}"#, r#"repository["x"].key_pem"#, &proof);
    clash(r#"{"repository": {"x": {"url": "http://x", "trusted": false}}}"#, r#"repository["x"].key_pem"#, &proof);
    fine(r#"{"repository": {"x": {"url": "http://x", "trusted": true}}}"#);
    fine(r#"{"repository": {"x": {"url": "http://x", "key_url": "http://x/key"}}}"#);
    fine(r#"{"repository": {"x": {"url": "cdrom:", "absent": true}}}"#);
    bad(r#"{"repository": {"x": {"url": "cdrom:", "trusted": true}}}"#, r#"repository["x"].url"#);
    clash(
        r#"{"repository": {"x": {"url": "cdrom:", "absent": true, "trusted": true}}}"#,
        r#"repository["x"].absent"#,
        &proof,
    );
}

#[test]
fn a_default_runtime_is_declared() {
    let with = |rest: &str| format!(r#"{{"container_runtime": {{"default_runtime": "nvidia"{rest}}}}}"#);
    bad(&with(""), "container_runtime.default_runtime");
    fine(&with(r#", "runtime": {"nvidia": {}}"#));
    fine(&with(r#", "imports": ["/etc/containerd/conf.d/nvidia.toml"]"#));
    bad(r#"{"proxy": {"no_proxy": ["a"]}}"#, "proxy.http");
}

#[test]
fn components_go_with_suites() {
    let with = |rest: &str| format!(r#"{{"repository": {{"x": {{"url": "http://x", "trusted": true, {rest}}}}}}}"#);
    let (path, seen) = (r#"repository["x"].components"#, ["suites", "components"]);
    clash(&with(r#""suites": ["bookworm"]"#), path, &seen);
    clash(&with(r#""components": ["main"]"#), path, &seen);
    fine(&with(r#""suites": ["bookworm"], "components": ["main"]"#));
}

#[test]
fn what_is_absent_has_no_version() {
    let with = |rest: &str| format!(r#"{{"package": {{"x": {{"absent": true, {rest}}}}}}}"#);
    let (path, seen) = (r#"package["x"].absent"#, ["absent", "version", "hold"]);
    clash(&with(r#""version": "1""#), path, &seen);
    clash(&with(r#""hold": true"#), path, &seen);
    fine(&with(r#""hold": false"#));
}

#[test]
fn a_masked_service_does_not_run() {
    let with = |rest: &str| format!(r#"{{"service": {{"x": {{"masked": true, {rest}}}}}}}"#);
    clash(&with(r#""running": true"#), r#"service["x"].masked"#, &["masked", "enabled", "running"]);
    fine(&with(r#""running": false"#));
}

#[test]
fn a_label_fits_its_filesystem() {
    let of = |kind: &str| format!(r#"{{"filesystem": {{"/dev/x": {{"kind": "{kind}", "label": "thirteen-long"}}}}}}"#);
    clash(&of("xfs"), r#"filesystem["/dev/x"].label"#, &["label", "kind"]);
    fine(&of("ext4"));
}

#[test]
fn a_command_has_one_guard() {
    let with = |rest: &str| format!(r#"{{"command": {{"x": {{"argv": ["/bin/true"]{rest}}}}}}}"#);
    let (path, seen) = (r#"command["x"]"#, ["creates", "unless"]);
    clash(&with(""), path, &seen);
    clash(&with(r#", "creates": "/x", "unless": ["/bin/true"]"#), path, &seen);
    fine(&with(r#", "creates": "/x""#));
    fine(&with(r#", "unless": ["/bin/true"]"#));
}

#[test]
fn all_problems_are_found_at_once_with_their_values() {
    let problems = problems(r#"{"hostname": "-", "kubernetes": {"version": "x"}}"#);
    let values: Vec<_> = problems.iter().map(|problem| problem.value.as_deref()).collect();
    assert_eq!(values, [Some("-"), Some("x")]);
}

#[test]
fn no_more_is_found_than_anybody_reads() {
    let packages = (0..1_000).map(|number| (format!("-{number}"), PackageSpec::default())).collect();
    assert_eq!(check(&NodeSpec { package: packages, ..NodeSpec::default() }).len(), MOST);
}

/// A specification with a value in every field of the contract.
const EVERYTHING: &str = r#"{
    "hostname": "cp-1", "swap": "off", "kernel_modules": ["overlay"], "sysctls": {"vm.swappiness": "1"}, "time_sync": true, "memory_cgroup": true,
    "package": {"vim": {"version": "1-*", "hold": true, "absent": false}},
    "repository": {"x": {"url": "http://x/", "suites": ["a"], "components": ["b"], "key_pem": "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        "key_url": "http://x/k", "trusted": true, "absent": false}},
    "proxy": {"http": "http://p:1", "https": "http://p:1", "no_proxy": ["a"]},
    "file": {"/a": {"content": "x", "mode": "0644", "owner": "root", "group": "root"}},
    "service": {"x": {"enabled": true, "running": true, "masked": false, "restart_on": ["/a"]}},
    "filesystem": {"/dev/disk/by-id/x": {"kind": "ext4", "label": "x", "uuid": "8a7e3f52-0000-4000-8000-0123456789ab"}},
    "mount": {"/m": {"source": "/dev/x", "kind": "ext4", "options": ["ro"]}},
    "container_runtime": {"package": "containerd", "version": "1", "sandbox_image": "x", "imports": ["/x"], "default_runtime": "runc",
        "runtime": {"x": {"runtime_type": "x", "binary_name": "/x"}},
        "registry": {"r": {"mirrors": ["http://m"], "skip_verify": true, "ca_pem": "-----BEGIN CERTIFICATE-----", "override_path": true}}},
    "kubernetes": {"version": "1.28.4", "repository": {"url": "http://x/", "key_pem": "-----BEGIN PGP PUBLIC KEY BLOCK-----"}},
    "command": {"a": {"argv": ["/bin/true", "x"], "unless": ["/bin/true"], "timeout_s": 1}, "b": {"argv": ["/bin/true"], "creates": "/a"}},
    "host": {"192.0.2.1": {"names": ["a"]}}
}"#;

/// Every text in it, one after the other, with `c` in the middle.
fn spoilt(value: &Value, c: char) -> Vec<Value> {
    let spoil = |text: &str| {
        let (before, after) = text.split_at(text.len().min(1));
        format!("{before}{c}{after}")
    };
    match value {
        Value::String(text) => vec![spoil(text).into()],
        Value::Array(items) => (0..items.len())
            .flat_map(|at| spoilt(&items[at], c).into_iter().map(move |inner| (at, inner)))
            .map(|(at, inner)| {
                let mut items = items.clone();
                items[at] = inner;
                items.into()
            })
            .collect(),
        Value::Object(map) => map.iter().flat_map(|(key, inner)| one_spoilt(map, key, inner, c, &spoil)).collect(),
        _ => Vec::new(),
    }
}

/// With another key where that is the user's, and with another value each.
fn one_spoilt(
    map: &Map<String, Value>,
    key: &str,
    inner: &Value,
    c: char,
    spoil: &dyn Fn(&str) -> String,
) -> Vec<Value> {
    let with = |key: &str, inner: Value, without: &str| {
        let mut map = map.clone();
        map.remove(without);
        map.insert(key.to_owned(), inner);
        Value::Object(map)
    };
    let is_field = fields::known().iter().any(|field| field.rsplit('.').next() == Some(key));
    let mut all: Vec<Value> = Vec::new();
    if !is_field {
        all.push(with(&spoil(key), inner.clone(), key));
    }
    // A file's content is its own matter.
    if key != "content" {
        all.extend(spoilt(inner, c).into_iter().map(|inner| with(key, inner, "")));
    }
    all
}

#[test]
fn no_text_of_a_specification_hides_a_control_character() {
    let spec: NodeSpec = serde_json::from_str(EVERYTHING).unwrap();
    assert_eq!(check(&spec), []);
    assert_eq!(fields::used(&spec), fields::known(), "every field has a value above");
    let everything: Value = serde_json::from_str(EVERYTHING).unwrap();
    for c in ['\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}'] {
        let all = spoilt(&everything, c);
        assert!(all.len() > 40, "{}", all.len());
        for spoilt in all {
            let spec: NodeSpec = serde_json::from_value(spoilt.clone()).unwrap();
            assert_ne!(check(&spec), [], "{c:?} in {spoilt}");
        }
    }
}

#[test]
fn any_specification_is_answered() {
    use prost::Message as _;
    let wire = serde_json::from_str::<NodeSpec>(EVERYTHING).unwrap().encode_to_vec();
    total::bytes("specification-wire", &[&wire], |bytes| {
        let spec = NodeSpec::decode(bytes).ok()?;
        Some((fields::used(&spec), check(&spec).iter().map(|problem| problem.at.to_string()).collect::<Vec<_>>()))
    });
    let event = crate::v1::Event::default().encode_to_vec();
    total::bytes("event-wire", &[&event], |bytes| crate::v1::Event::decode(bytes).is_ok());
}

#[test]
fn any_message_of_the_other_end_is_answered() {
    use crate::v1::{self, enroll_reply, enroll_request};
    use prost::Message;
    fn wire<M: Message + Default>(name: &str, good: &M) {
        total::bytes(name, &[&good.encode_to_vec()], |bytes| M::decode(bytes).map(|read| read.encoded_len()).ok());
    }
    let proof =
        v1::EnrollProof { public_key: vec![1; 91], agent_nonce: vec![2; 32], generation: 1, ..Default::default() };
    wire("enrol-reply-wire", &v1::EnrollReply { message: Some(enroll_reply::Message::Proof(proof)) });
    let hello = v1::EnrollHello { enrolment_id: "e1".to_owned(), provider_nonce: vec![3; 32], provider_time: 7 };
    wire("enrol-request-wire", &v1::EnrollRequest { message: Some(enroll_request::Message::Hello(hello)) });
    let facts =
        v1::Facts { hostname: "a".to_owned(), addresses: vec!["192.0.2.1/24".to_owned()], ..Default::default() };
    wire("describe-wire", &v1::Description { version: "1".to_owned(), facts: Some(facts), ..Default::default() });
    let node = v1::ClusterNode { name: "a".to_owned(), taints: vec!["a:NoSchedule".to_owned()], ..Default::default() };
    wire("cluster-status-wire", &v1::ClusterStatusReply { nodes: vec![node], ..Default::default() });
}
