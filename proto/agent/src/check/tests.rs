//! Bad values and the attributes they are named by.

use super::*;

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
    let proof = ["key_pem", "key_url", "trusted"];
    clash(r#"{"repository": {"x": {"url": "http://x"}}}"#, r#"repository["x"].key_pem"#, &proof);
    clash(r#"{"repository": {"x": {"url": "http://x", "trusted": false}}}"#, r#"repository["x"].key_pem"#, &proof);
    fine(r#"{"repository": {"x": {"url": "http://x", "trusted": true}}}"#);
    fine(r#"{"repository": {"x": {"url": "http://x", "key_url": "http://x/key"}}}"#);
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
