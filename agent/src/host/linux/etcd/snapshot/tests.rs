//! On a real etcd, whose program `GROUNDWORK_ETCD` names: a snapshot of a cluster of three, and another cluster that begins with it.

#![expect(clippy::disallowed_methods, reason = "files of the test's own, which no power cut is to survive")]

use super::super::tests::{At, Running, free_ports, keys, knows_a_leader, kubeadms, single, three};
use super::*;
use crate::host::etcd::Etcd as _;
use std::os::unix::fs::PermissionsExt as _;

#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Range {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    end: Vec<u8>,
    #[prost(bool, tag = "9")]
    count_only: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Head {
    #[prost(uint64, tag = "3")]
    revision: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Counted {
    #[prost(message, tag = "1")]
    head: Option<Head>,
    #[prost(uint64, tag = "4")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Anything {}

/// Writes so many keys of four kilobytes.
async fn fill(etcd: &At, at: &str, from: u32, number: u32) {
    for key in from..from + number {
        let put = Put { key: format!("/registry/{key:05}").into_bytes(), value: vec![b'x'; 4096] };
        let _: Anything = etcd.call(at, "KV/Put", put).await.unwrap();
    }
}

/// How many keys there are, and the last revision.
async fn counted(etcd: &At, at: &str) -> (u64, u64) {
    let all = Range { key: b"/".to_vec(), end: b"0".to_vec(), count_only: true };
    let said: Counted = etcd.call(at, "KV/Range", all).await.unwrap();
    (said.count, said.head.unwrap().revision)
}

fn program() -> Option<std::ffi::OsString> {
    let program = std::env::var_os("GROUNDWORK_ETCD");
    if program.is_none() {
        eprintln!("skipped: GROUNDWORK_ETCD names no etcd");
    }
    program
}

#[tokio::test]
async fn a_real_cluster_goes_on_in_another_one_that_begins_with_its_snapshot() {
    let Some(program) = program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    keys(folder.path());
    let etcd = kubeadms(folder.path());
    let ports = free_ports();
    let mut old = three(&program, folder.path(), &ports);
    let at = format!("127.0.0.1:{}", ports[0]);
    knows_a_leader(&etcd, &at, true).await;
    fill(&etcd, &at, 0, 300).await;
    // One is taken out, so that there is a list of those, too.
    old.0.truncate(2);
    let gone = etcd.members(&at).await.unwrap().into_iter().find(|member| member.name == "m2").unwrap();
    etcd.remove(&at, gone.id).await.unwrap();
    let before = counted(&etcd, &at).await;

    let file = path("new/folder/etcd.db");
    let taken = etcd.snapshot(&at, &file).await.unwrap();
    assert_eq!((taken.revision, before.0), (before.1, 300));
    let metadata = std::fs::metadata(&file).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (taken.size, 0o600));
    assert_eq!(etcd.look(&file).unwrap(), Some(taken.clone()));
    // Another one in its place.
    fill(&etcd, &at, 300, 1).await;
    assert_eq!(etcd.snapshot(&at, &file).await.unwrap().revision, taken.revision + 1);
    drop(old);

    let data = path("restored");
    etcd.restore(&file, &format!("{data}/member/snap/db")).unwrap();
    let ports = free_ports();
    let at = format!("127.0.0.1:{}", ports[0]);
    let start = || Running(vec![single(&program, folder.path(), ("other", &data), &ports)]);
    for start_again in 0..3_u32 {
        let running = start();
        knows_a_leader(&etcd, &at, true).await;
        let members = etcd.members(&at).await.unwrap();
        assert_eq!(members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["other"]);
        // Every change since is there, and none is made twice.
        let already = u64::from(start_again) * 20;
        assert_eq!(counted(&etcd, &at).await, (301 + already, taken.revision + 1 + already));
        fill(&etcd, &at, 1000 + start_again * 100, 20).await;
        drop(running);
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_taken_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    keys(folder.path());
    let etcd = kubeadms(folder.path());
    let nobody = format!("127.0.0.1:{}", free_ports()[0]);
    let file = folder.path().join("etcd.db");
    let error = etcd.snapshot(&nobody, file.to_str().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
    assert!(!file.exists());
}

#[test]
fn what_is_damaged_is_not_restored() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let good = crate::host::bolt::sample();
    let sum = digest::digest(&digest::SHA256, &good);
    let whole = [good.clone(), sum.as_ref().to_vec()].concat();
    let mut spoilt = whole.clone();
    let last = good.len() - 1;
    spoilt[last] ^= 1;
    for (name, bytes, why) in [
        ("spoilt", spoilt, "not what its sum says"),
        ("cut", whole[..whole.len() - 100].to_vec(), "its length"),
        ("bare", good, "its length"),
        ("other", vec![7; 512 * 40 + 32], "no database of etcd"),
    ] {
        std::fs::write(path(name), bytes).unwrap();
        let error = restore(&path(name), &path("db")).unwrap_err();
        assert!(matches!(error, HostError::NoSnapshot { .. }) && error.to_string().contains(why), "{error}");
        assert!(!folder.path().join("db").exists() && !folder.path().join("db.part").exists(), "{name}");
    }
    std::fs::write(path("whole"), &whole).unwrap();
    restore(&path("whole"), &path("db")).unwrap();
    assert_eq!(std::fs::metadata(path("db")).unwrap().len(), u64::try_from(whole.len()).unwrap() - 32);
    assert!(restore(&path("whole"), &path("db")).is_err(), "nothing is written over another database");
    assert_eq!(look(&path("nothing")).unwrap(), None);
}

#[test]
fn a_name_is_given_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("one"), "1").unwrap();
    std::fs::write(path("two"), "2").unwrap();
    assert!(rename(&path("one"), &path("two")).is_err());
    assert_eq!(std::fs::read(path("two")).unwrap(), b"2");
    rename(&path("one"), &path("three")).unwrap();
    assert_eq!((std::fs::read(path("three")).unwrap(), folder.path().join("one").exists()), (b"1".to_vec(), false));
    // Cut off between the second name and the end of the first.
    std::fs::hard_link(path("three"), path("one")).unwrap();
    rename(&path("one"), &path("three")).unwrap();
    assert_eq!((std::fs::read(path("three")).unwrap(), folder.path().join("one").exists()), (b"1".to_vec(), false));
}
