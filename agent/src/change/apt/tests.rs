//! What apt is told to do, on a machine where something stands in the way.

use super::*;
use crate::host::dpkg::{Packages, STATUS};
use crate::host::fake::Fake;

fn install(name: &str) -> Transaction {
    Transaction { install: vec![(name.to_owned(), None)], ..Transaction::default() }
}

fn docker() -> Fake {
    let host = Fake::template();
    host.put(STATUS, "Package: containerd.io\nStatus: install ok installed\nVersion: 1.7.24-1\n");
    host
}

fn installed(host: &Fake, name: &str) -> bool {
    Packages::read(host).unwrap().get(name).is_some()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_to_make_room() {
    let host = docker();
    let error = run(&host, &install("containerd"), &|_| ()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "installing containerd is refused: apt would remove containerd.io for it, and nothing was installed. If containerd.io may go, \
         say so with `absent = true` in its `package` block; if not, take out of the configuration what cannot stand beside it"
    );
    assert!(installed(&host, "containerd.io"));
}

#[tokio::test(start_paused = true)]
async fn what_is_declared_absent_makes_room_first() {
    let host = docker();
    let transaction = Transaction { remove: vec!["containerd.io".to_owned()], ..install("containerd") };
    run(&host, &transaction, &|_| ()).await.unwrap();
    assert!(installed(&host, "containerd") && !installed(&host, "containerd.io"));
}

fn half_done_as(state: &str) -> Fake {
    let host = Fake::template();
    host.put(STATUS, &format!("Package: nginx\nStatus: install ok {state}\nVersion: 1\n"));
    host
}

#[tokio::test(start_paused = true)]
async fn what_dpkg_cannot_finish_apt_does() {
    let host = half_done_as("unpacked");
    run(&host, &Transaction { repair: true, ..Transaction::default() }, &|_| ()).await.unwrap();
    assert!(installed(&host, "nginx"));
}

#[tokio::test(start_paused = true)]
async fn apt_is_not_asked_to_repair_what_dpkg_finishes() {
    let host = half_done_as("half-configured");
    run(&host, &Transaction { repair: true, ..Transaction::default() }, &|_| ()).await.unwrap();
    assert!(installed(&host, "nginx"));
    assert!(!host.log().iter().any(|line| line.contains("--fix-broken")));
}

#[tokio::test(start_paused = true)]
async fn another_package_manager_is_waited_for() {
    let host = half_done_as("half-configured");
    host.put("/var/lib/dpkg/lock-frontend", "3");
    run(&host, &Transaction { repair: true, ..Transaction::default() }, &|_| ()).await.unwrap();
    assert!(installed(&host, "nginx"));
    host.put("/var/lib/dpkg/lock-frontend", "3");
    hold(&host, "nginx", true, &|_| ()).await.unwrap();
    assert!(Packages::read(&host).unwrap().get("nginx").unwrap().held);
    for lock in ["/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock"] {
        host.put(lock, "3");
    }
    run(&host, &install("kubectl"), &|_| ()).await.unwrap();
    assert!(installed(&host, "kubectl"));
    // Whoever is at work for good is named.
    host.put("/var/lib/apt/lists/lock", "1000");
    let error = run(&host, &install("kubeadm"), &|_| ()).await.unwrap_err();
    assert!(error.to_string().contains("Could not get lock /var/lib/apt/lists/lock"), "{error}");
}

#[test]
fn versions_are_read_of_the_table_of_apt() {
    let table = "   kubeadm | 1.35.4-1.1 | https://pkgs.k8s.io/core:/stable:/v1.35/deb  Packages\n   kubeadm | 1.35.3-1.1 | https://pkgs.k8s.io  Packages\n";
    assert_eq!(versions(table), ["1.35.4-1.1", "1.35.3-1.1"]);
    assert_eq!(versions("N: Unable to locate package kubeadm\n"), [""; 0]);
}
