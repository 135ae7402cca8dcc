//! Bad values and the attributes they are named by.

use super::*;

#[track_caller]
fn bad(text: &str, path: &str) {
    let problems = NodeSpec::from_json(text).unwrap_err();
    assert!(problems.0.iter().any(|problem| problem.path == path), "{problems}");
}

#[test]
fn a_bad_value_is_named_by_its_path() {
    bad(r#"{"hostname": "Node_1"}"#, "hostname");
    bad(r#"{"hosts": {"10.0.0": {"names": ["a"]}}}"#, r#"hosts["10.0.0"]"#);
    bad(r#"{"sysctls": {"nonsense": "1"}}"#, r#"sysctls["nonsense"]"#);
    bad(r#"{"sysctls": {"a.b": "1\n2"}}"#, r#"sysctls["a.b"]"#);
    bad(r#"{"kernel_modules": ["a b"]}"#, "kernel_modules");
    bad(r#"{"packages": {"vim": {"version": "-oDebug=1"}}}"#, r#"packages["vim"].version"#);
    bad(r#"{"packages": {"-f": {}}}"#, r#"packages["-f"]"#);
    bad(r#"{"repositories": {"x": {"url": "ftp://x", "trusted": true}}}"#, r#"repositories["x"].url"#);
    bad(r#"{"repositories": {"x": {"url": "http://x"}}}"#, r#"repositories["x"].key_pem"#);
    bad(
        r#"{"repositories": {"x": {"url": "http://x", "trusted": true, "components": ["main"]}}}"#,
        r#"repositories["x"].components"#,
    );
    bad(r#"{"files": {"/etc/../x": {"content": ""}}}"#, r#"files["/etc/../x"]"#);
    bad(r#"{"files": {"/x": {"content": "", "mode": "0999"}}}"#, r#"files["/x"].mode"#);
    bad(r#"{"services": {"x": {"masked": true, "running": true}}}"#, r#"services["x"].masked"#);
    bad(r#"{"filesystems": {"/dev/sdb": {"kind": "ext4"}}}"#, r#"filesystems["/dev/sdb"]"#);
    bad(r#"{"filesystems": {"/dev/disk/by-id/x": {"kind": "zfs"}}}"#, r#"filesystems["/dev/disk/by-id/x"].kind"#);
    bad(r#"{"mounts": {"/": {"source": "/dev/x"}}}"#, r#"mounts["/"]"#);
    bad(r#"{"commands": {"x": {"argv": ["true"], "creates": "/x"}}}"#, r#"commands["x"].argv"#);
    bad(r#"{"commands": {"x": {"argv": ["/bin/true"]}}}"#, r#"commands["x"]"#);
    bad(r#"{"kubernetes": {"version": "1.28"}}"#, "kubernetes.version");
    bad(r#"{"swap": "on"}"#, "");
}

#[test]
fn all_problems_are_reported_at_once() {
    let problems = NodeSpec::from_json(r#"{"hostname": "-", "kubernetes": {"version": "x"}}"#).unwrap_err();
    assert_eq!(problems.0.len(), 2);
    assert_eq!(
        problems.to_string(),
        "the specification cannot be used: hostname: must be a host name: lower-case letters, digits and `-`, joined by dots, at most 64; \
         kubernetes.version: must be three numbers, such as `1.36.2`, without `v`"
    );
}

#[test]
fn content_is_not_printed() {
    let spec = NodeSpec::from_json(r#"{"files": {"/x": {"content": "hunter2"}}}"#).unwrap();
    assert!(!format!("{spec:?}").contains("hunter2"));
}
