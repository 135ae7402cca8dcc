//! The client against a Proxmox VE simulator: the life of a VM and of files. Runs where `GROUNDWORK_FAKEPVE` names a Python that has
//! `fakepve` 0.5.0.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::process::{Child, Stdio};
use std::time::Duration;

use pve::{
    Auth, Class, Client, CloneVm, Config, CreateVm, Drive, NodeName, Params, Source, Trust, Upload, Vmid, VolumeId,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A simulator that ends with the test.
struct Simulator {
    process: Child,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Starts the simulator on a free port, with a certificate of its own; `None` without the program.
async fn simulator(trust: impl Fn(&rcgen::Certificate) -> Trust) -> Option<Simulator> {
    let program = std::env::var_os("GROUNDWORK_FAKEPVE")?;
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        #[expect(clippy::disallowed_methods, reason = "a file of a test's own folder")]
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = (file("cert.pem", &made.cert.pem()), file("key.pem", &made.signing_key.serialize_pem()));
    let guests = file("guests.json", r#"{"guests": []}"#);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "the other side of what is tested")]
    let process = std::process::Command::new(program)
        .args([
            "-m",
            "fakepve",
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--user",
            "root@pam",
            "--password",
            "secret",
        ])
        .args(["--time-scale", "0.02", "--cert"])
        .args([cert.as_os_str(), "--key".as_ref(), key.as_os_str(), guests.as_os_str()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let auth = Auth::Password { username: "root@pam".into(), password: "secret".into(), otp: None };
    let endpoints = vec![format!("https://127.0.0.1:{port}")];
    let client = Client::new(Config { endpoints, auth, trust: trust(&made.cert), per_node: 0 }).unwrap();
    let client = client.within(Instant::now() + Duration::from_secs(60), &CancellationToken::new());
    let simulator = Simulator { process, client, _folder: folder };
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Some(simulator)
}

fn pinned(certificate: &rcgen::Certificate) -> Trust {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
    Trust::Fingerprint(hex::encode(digest))
}

#[tokio::test]
async fn a_server_is_believed_by_its_ca_and_no_other() {
    let Some(simulator) = simulator(|certificate| Trust::Ca(certificate.pem())).await else { return };
    simulator.client.version().await.unwrap();
}

#[tokio::test]
async fn another_certificate_than_the_pinned_is_refused_before_anything_is_sent() {
    let Some(simulator) = simulator(|_| Trust::Fingerprint("00".repeat(32))).await else { return };
    let error = simulator.client.version().await.unwrap_err();
    assert!(error.never_sent(), "{error}");
    let other = error.fingerprint().unwrap();
    assert_eq!(other.expected(), ["00"; 32].join(":"));
    assert_ne!(other.found(), other.expected());
    let told = std::error::Error::source(&error).unwrap().to_string();
    assert!(told.contains(&other.found()) && told.contains(&other.expected()) && !told.contains("Other"), "{told}");
}

#[tokio::test]
async fn a_vm_lives_from_creation_to_destruction() {
    let Some(simulator) = simulator(pinned).await else { return };
    let client = &simulator.client;
    let node = client.nodes().list().await.unwrap()[0].node.clone();
    let storage = disk_storage(client, &node).await;
    let vmid = client.cluster().next_id().await.unwrap();
    let config = Params::new().with("name", "one").with("cores", 1).with("scsi0", format!("{storage}:1"));
    let new = CreateVm { vmid, config, pool: None };
    client.wait(&client.qemu(&node).create(&new).begin().await.unwrap()).await.unwrap();
    assert!(client.qemu(&node).create(&new).begin().await.unwrap_err().is(Class::Exists));
    assert!(client.cluster().is_taken(vmid).await.unwrap());

    let machine = client.vm(&node, vmid);
    machine.configure(&Params::new().with("cores", 2).with("tags", "b;a"), &[], None).done().await.unwrap();
    machine.resize("scsi0", 2 << 30).done().await.unwrap();
    let settings = machine.pending().await.unwrap();
    assert_eq!(settings.written("cores"), Some("2"));
    // This simulator answers a resize and changes nothing.
    assert_eq!(Drive::parse(settings.written("scsi0").unwrap()).storage(), Some(storage.as_str()));

    machine.start().done().await.unwrap();
    assert!(machine.status().await.unwrap().is_running());
    machine.stop().done().await.unwrap();

    let copy = clone(client, &node, vmid).await;
    client.vm(&node, copy).delete().done().await.unwrap();
    machine.delete().done().await.unwrap();
    assert!(machine.pending().await.unwrap_err().is(Class::NoGuest));
    assert!(client.cluster().guests_now().await.unwrap().find(vmid).is_none());
}

async fn clone(client: &Client, node: &NodeName, source: Vmid) -> Vmid {
    let newid = source.next().unwrap();
    let copy =
        CloneVm { newid, name: "two".into(), description: None, full: true, storage: None, target: None, pool: None };
    client.wait(&client.vm(node, source).clone_to(&copy).begin().await.unwrap()).await.unwrap();
    assert_eq!(client.vm(node, newid).pending().await.unwrap().written("name"), Some("two"));
    newid
}

async fn disk_storage(client: &Client, node: &NodeName) -> String {
    let all = client.storages(node).list().await.unwrap();
    all.into_iter().find(|storage| storage.holds("images")).unwrap().storage
}

#[tokio::test]
async fn a_file_is_uploaded_listed_and_deleted() {
    let Some(simulator) = simulator(pinned).await else { return };
    let client = &simulator.client;
    let node = client.nodes().list().await.unwrap()[0].node.clone();
    let storages = client.storages(&node);
    let all = storages.list().await.unwrap();
    let storage = &all.iter().find(|storage| storage.holds("iso")).unwrap().storage;
    let source = Source::Bytes(vec![7; 300_000]);
    let wanted = Upload { content: "iso", file_name: "seed.iso".into(), source, checksum: None };
    client.wait(&storages.upload(storage, &wanted).await.unwrap()).await.unwrap();
    let volume = VolumeId::new(storage, "iso/seed.iso");
    assert!(storages.find(&volume, "iso").await.unwrap().is_some());
    storages.delete(&volume).await.unwrap();
    storages.delete(&volume).await.unwrap();
    assert!(storages.find(&volume, "iso").await.unwrap().is_none());
}
