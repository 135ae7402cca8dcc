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
        "installing containerd is refused: apt would remove containerd.io for it, and nothing was done. If containerd.io may go, \
         say so with `absent = true` in `packages`; if not, take out of the configuration what cannot stand beside it"
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
