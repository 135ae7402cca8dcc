//! Manifests that are annotated, and certificates that are read.

use super::*;
use crate::cluster::static_pods::tests::one;

const YAML: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  labels:\n    tier: control-plane\n  name: kube-scheduler\nspec:\n  x: /etc/kubernetes/pki\n";

#[test]
fn a_manifest_gets_the_annotation_once_and_keeps_the_rest() {
    let first = annotated(YAML, MARK, "1").unwrap();
    assert!(first.contains("metadata:\n  annotations:\n    groundwork/certificates: \"1\"\n  labels:\n"), "{first}");
    let second = annotated(&first, MARK, "2").unwrap();
    assert_eq!(second, first.replace("\"1\"", "\"2\""));
    assert_eq!(annotated(&second, MARK, "2").unwrap(), second, "nothing is written that is there");
    let with = YAML.replace("  labels:", "  annotations:\n    kubeadm.kubernetes.io/x: y\n  labels:");
    let said = annotated(&with, MARK, "1").unwrap();
    assert!(
        said.contains("  annotations:\n    groundwork/certificates: \"1\"\n    kubeadm.kubernetes.io/x: y\n"),
        "{said}"
    );
}

#[test]
fn kube_vips_manifest_is_json() {
    let said = annotated(r#"{"metadata":{"name":"kube-vip","annotations":{"a":"b"}}}"#, MARK, "1").unwrap();
    let read: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(read["metadata"]["annotations"], json!({ "a": "b", "groundwork/certificates": "1" }));
    for odd in ["", "{", "{}", "- a\n", "spec:\n  metadata:\n"] {
        assert_eq!(annotated(odd, MARK, "1"), None, "{odd}");
    }
    total::text("static-pod", &[YAML, &said], |text| annotated(text, MARK, "1"));
}

#[test]
fn only_pods_that_are_ready_with_the_new_certificates_count() {
    let pod = |stamp: &str, ready: &str| one("etcd", "3.6.8-0", ready, &[(MARK, stamp)]);
    let bare = one("etcd", "3.6.8-0", "True", &[]);
    let pods: Vec<Pod> = [pod("1", "True"), pod("1", "False"), pod("0", "True"), bare].into_iter().flatten().collect();
    assert_eq!((anew(&pods, "1"), anew(&[], "1")), (1, 0));
}

#[test]
fn a_kubeconfig_holds_its_certificate_and_any_bytes_are_answered() {
    let own = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
    let text = format!("users:\n- user:\n    client-certificate-data: {}\n", STANDARD.encode(&own));
    assert_eq!(embedded(text.as_bytes()).unwrap(), own.as_bytes());
    assert!(certificate(own.as_bytes()).is_some_and(|read| read.not_after > 1_700_000_000));
    let read = |bytes: &[u8]| (embedded(bytes), certificate(bytes).map(|read| read.not_after));
    total::bytes("embedded-certificate", &[text.as_bytes(), own.as_bytes()], read);
}
