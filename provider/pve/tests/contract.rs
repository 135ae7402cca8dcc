//! The client against recorded answers of a real Proxmox VE 9.1.8, and against connections that break.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod server;

use std::sync::Arc;
use std::time::Duration;

use pve::{
    Auth, Class, Client, Config, ConfigError, CreateVm, Error, NodeName, Params, Source, Trust, Upid, Upload, Vmid,
};
use server::{Answer, Server};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use Answer::{Endless, HangsUp, Recorded, Says, Silent, Together};

fn client(endpoints: &[&str]) -> Client {
    let endpoints = endpoints.iter().map(|url| (*url).to_owned()).collect();
    let auth = Auth::Token("root@pam!lab=0b5e".to_owned());
    Client::new(Config { endpoints, auth, trust: Trust::System, per_node: 0 }).unwrap()
}

async fn answering(answers: impl IntoIterator<Item = Answer>) -> (Server, Client) {
    let server = Server::new(answers).await;
    let client = client(&[&server.url]);
    (server, client)
}

fn node() -> NodeName {
    "pve1".parse().unwrap()
}

fn vmid(number: i64) -> Vmid {
    Vmid::new(number).unwrap()
}

fn upid() -> Upid {
    "UPID:pve1:00000148:000BF2D3:6B01181E:qmcreate:150:root@pam!lab:".parse().unwrap()
}

fn soon(client: &Client) -> Client {
    client.within(Instant::now() + Duration::from_secs(20), &CancellationToken::new())
}

#[tokio::test]
async fn the_version_is_read_with_the_token() {
    let (server, client) = answering([Recorded("version")]).await;
    assert_eq!(client.version().await.unwrap().release, "9.1");
    let head = server.seen()[0].head.to_lowercase();
    assert!(head.contains("authorization: pveapitoken=root@pam!lab=0b5e"), "{head}");
    assert!(!head.contains("csrf"), "{head}");
}

#[tokio::test]
async fn nodes_have_numbers_only_with_rights() {
    let (_server, client) = answering([Recorded("nodes"), Recorded("nodes-without-rights")]).await;
    assert_eq!(client.nodes().list().await.unwrap()[0].maxcpu, Some(2));
    assert_eq!(client.nodes().list().await.unwrap()[0].maxcpu, None);
}

#[tokio::test]
async fn guests_are_asked_for_once_by_everybody() {
    let (server, client) = answering([Recorded("guests"), Recorded("guests-just-made")]).await;
    let mut asking = JoinSet::new();
    for client in std::iter::repeat_n(client.clone(), 10) {
        asking.spawn(async move { client.cluster().guests().await.is_ok() });
    }
    assert_eq!(asking.join_all().await, [true; 10]);
    assert_eq!(server.lines(), ["GET /cluster/resources"]);
    let found = client.cluster().guests().await.unwrap();
    assert_eq!(found.find(vmid(160)).unwrap().name.as_deref(), Some("info-vm"));
    assert_eq!(found.find(vmid(160)).unwrap().tags(), ["b", "a"]);
    let now = client.cluster().guests_now().await.unwrap();
    assert_eq!(now.find(vmid(200)).unwrap().lock.as_deref(), Some("create"));
    assert_eq!(now.find(vmid(160)).unwrap().name, None);
}

#[tokio::test]
async fn a_number_is_taken_or_free() {
    let (_server, client) = answering([Recorded("nextid"), Recorded("nextid-taken"), Recorded("nextid")]).await;
    assert_eq!(client.cluster().next_id().await.unwrap(), vmid(100));
    assert!(client.cluster().is_taken(vmid(160)).await.unwrap());
    assert!(!client.cluster().is_taken(vmid(100)).await.unwrap());
}

#[tokio::test]
async fn options_are_read_with_what_waits() {
    let (_server, client) =
        answering([Recorded("pending-disks"), Recorded("pending-bare"), Recorded("pending-gone")]).await;
    let node = node();
    let settings = client.vm(&node, vmid(320)).pending().await.unwrap();
    assert_eq!(settings.current("scsi0"), Some("local:320/vm-320-disk-0.qcow2,size=1G"));
    assert_eq!((settings.current("memory"), settings.current("kvm")), (Some("128"), Some("0")));
    assert_eq!(settings.digest(), Some("0e5caa3ca7db035310d765b28c94191ace70c4c4"));
    assert_eq!(client.vm(&node, vmid(300)).pending().await.unwrap().current("name"), None);
    let gone = client.vm(&node, vmid(4711)).pending().await.unwrap_err();
    assert!(gone.is(Class::NoGuest), "{gone}");
}

#[tokio::test]
async fn a_script_runs_in_the_guest_and_its_end_is_told_once() {
    let answers = ["agent-info", "agent-os", "agent-exec", "agent-exec-runs", "agent-exec-ended", "agent-exec-told"];
    let (server, client) = answering(answers.map(Recorded)).await;
    let node = node();
    let machine = client.vm(&node, vmid(200));
    let commands = machine.agent_commands().await.unwrap();
    let enabled = |name: &str| commands.iter().find(|command| command.name == name).unwrap().enabled;
    assert!(enabled("guest-exec") && enabled("guest-file-write") && !enabled("guest-get-devices"));
    assert_eq!(machine.agent_os().await.unwrap().id, "debian");
    assert_eq!(machine.agent_exec("/bin/sh", "exit 3; # a b=c\n").await.unwrap(), 444);
    assert_eq!(machine.agent_exec_status(444).await.unwrap(), None);
    let exit = machine.agent_exec_status(444).await.unwrap().unwrap();
    assert_eq!((exit.code, exit.stdout.as_str(), exit.stderr.as_str()), (Some(3), "out\n", "err\n"));
    let told = machine.agent_exec_status(444).await.unwrap_err();
    assert!(told.is(Class::NoProcess), "{told}");
    let body = &server.seen()[2].body;
    assert_eq!(body, "command=%2Fbin%2Fsh&input-data=exit%203%3B%20%23%20a%20b%3Dc%0A");
}

#[tokio::test]
async fn what_a_guest_says_is_read_and_told_apart() {
    let answers = ["agent-exec-signal", "agent-exec-latin", "agent-file-write", "agent-file-write-nowhere"];
    let (server, client) = answering(answers.into_iter().chain(["agent-vm-stopped"]).map(Recorded)).await;
    let node = node();
    let machine = client.vm(&node, vmid(200));
    assert_eq!(machine.agent_exec_status(1).await.unwrap().unwrap().code, None, "a signal");
    let exit = machine.agent_exec_status(1).await.unwrap().unwrap();
    assert!(exit.stdout.ends_with("ä\n"), "{exit:?}");
    machine.agent_file_write("/root/x", b"hello\xff").await.unwrap();
    assert_eq!(server.seen()[2].body, "file=%2Froot%2Fx&content=aGVsbG%2F%2F&encode=0");
    let nowhere = machine.agent_file_write("/nosuch/x", b"").await.unwrap_err();
    assert!(nowhere.is(Class::InGuest), "{nowhere}");
    let stopped = machine.agent_commands().await.unwrap_err();
    assert!(stopped.is(Class::NotRunning), "{stopped}");
}

#[tokio::test]
async fn a_vm_runs_or_not() {
    let (_server, client) =
        answering([Recorded("status-stopped"), Recorded("status-running"), Recorded("status-forbidden")]).await;
    let node = node();
    let machine = client.vm(&node, vmid(320));
    assert!(!machine.status().await.unwrap().is_running());
    assert!(machine.status().await.unwrap().is_running());
    let forbidden = machine.status().await.unwrap_err();
    assert!(forbidden.is(Class::Rights) && forbidden.to_string().contains("(/vms/4711, VM.Audit)"), "{forbidden}");
}

#[tokio::test]
async fn storages_and_their_content_are_listed() {
    let (_server, client) = answering([
        Recorded("storages"),
        Recorded("content"),
        Recorded("content-import"),
        Recorded("content-no-storage"),
    ])
    .await;
    let node = node();
    let storages = client.storages(&node);
    let local = storages.list().await.unwrap().into_iter().find(|storage| storage.storage == "local").unwrap();
    assert!(local.active && local.holds("import") && !local.shared);
    let content = storages.content("local", "images").await.unwrap();
    assert_eq!(content.iter().find(|row| row.vmid == Some(vmid(160))).unwrap().size, 1 << 30);
    assert_eq!(
        storages.content("local", "import").await.unwrap()[0].volid.to_string(),
        "local:import/debian12-cloud.qcow2"
    );
    assert!(storages.content("nosuch", "iso").await.unwrap_err().is(Class::NoStorage));
}

#[tokio::test]
async fn the_guest_agent_tells_addresses_or_is_not_there() {
    let (_server, client) = answering([Recorded("agent-interfaces"), Recorded("agent-not-running")]).await;
    let node = node();
    let machine = client.vm(&node, vmid(200));
    let cards = machine.agent_interfaces().await.unwrap();
    assert!(cards.iter().any(|card| card.name == "lo" && card.addresses().any(|address| address.is_loopback())));
    assert!(machine.agent_interfaces().await.unwrap_err().is(Class::NoAgent));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let cases = [
        ("create-taken", Class::Exists, "unable to create VM 300"),
        ("create-bad-net", Class::Other, "net0: invalid format"),
        ("create-no-storage", Class::NoStorage, "storage 'nosuch' does not exist"),
        ("create-forbidden", Class::Rights, "(/vms/151, VM.Config.Memory)"),
        ("clone-taken", Class::Exists, "config file already exists"),
        ("config-conflict", Class::Conflict, "checksum mismatch"),
        ("config-root-only", Class::Rights, "only root can set 'args' config"),
        ("delete-protected", Class::Other, "protection mode enabled"),
        ("unauthorised", Class::Credentials, "Authentication failed!"),
    ];
    let node = node();
    for (name, class, text) in cases {
        let (_server, client) = answering([Recorded(name)]).await;
        let new = CreateVm { vmid: vmid(300), config: Params::new(), pool: None };
        let error = client.qemu(&node).create(&new).begin().await.unwrap_err();
        assert_eq!(error.class(), class, "{name}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn older_servers_say_why_in_the_reason_phrase() {
    let (_server, client) = answering([Says(500, "storage 'x' does not exist", r#"{"data":null}"#)]).await;
    let error = client.storages(&node()).list().await.unwrap_err();
    assert!(error.is(Class::NoStorage), "{error}");
}

#[tokio::test]
async fn a_lock_is_waited_for() {
    let (server, client) = answering([Recorded("clone-locked"), Recorded("config-task"), Recorded("task-ok")]).await;
    let (client, node) = (soon(&client), node());
    client.vm(&node, vmid(320)).configure(&Params::new().with("cores", 2), &[], None).done().await.unwrap();
    assert_eq!(server.lines()[..2], ["POST /nodes/pve1/qemu/320/config", "POST /nodes/pve1/qemu/320/config"]);
    assert_eq!(server.seen()[1].body, "cores=2");
}

#[tokio::test]
async fn a_write_that_was_done_at_once_has_no_task() {
    let (server, client) = answering([Recorded("config-at-once")]).await;
    let node = node();
    client.vm(&node, vmid(320)).configure(&Params::new(), &["net1".to_owned()], Some("abc")).done().await.unwrap();
    assert_eq!(server.seen()[0].body, "delete=net1&digest=abc");
}

#[tokio::test]
async fn a_failed_task_says_why_with_its_log() {
    let (_server, client) = answering([Recorded("task-failed"), Recorded("task-failed-log")]).await;
    let error = client.wait(&upid()).await.unwrap_err();
    let Error::Task(failed) = error else { panic!("{error}") };
    assert!(failed.status.starts_with("KVM virtualisation configured, but not available"), "{}", failed.status);
    assert!(failed.log[0].starts_with("TASK ERROR: KVM"), "{:?}", failed.log);
}

#[tokio::test]
async fn a_stop_stops_the_task_in_flight() {
    let stopped = Says(200, "OK", r#"{"data":{"status":"stopped","exitstatus":"interrupted by signal"}}"#);
    let (server, client) = answering([Says(200, "OK", r#"{"data":null}"#), stopped]).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let client = client.within(Instant::now() + Duration::from_secs(20), &stop);
    assert!(matches!(client.wait(&upid()).await, Err(Error::Stopped { .. })));
    assert!(server.lines()[0].starts_with("DELETE /nodes/pve1/tasks/UPID%3Apve1"), "{:?}", server.lines());
}

#[tokio::test]
async fn a_deadline_leaves_the_task_running() {
    let (server, client) = answering([Says(200, "OK", r#"{"data":{"status":"running"}}"#)]).await;
    let client = client.within(Instant::now() + Duration::from_millis(300), &CancellationToken::new());
    assert!(matches!(client.wait(&upid()).await, Err(Error::Deadline { .. })));
    assert!(server.lines().iter().all(|line| line.starts_with("GET")), "{:?}", server.lines());
}

#[tokio::test]
async fn a_read_whose_answer_was_lost_is_repeated() {
    let (server, client) = answering([HangsUp, Recorded("version")]).await;
    assert!(client.version().await.is_ok());
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not() {
    let (server, client) = answering([HangsUp, Recorded("create")]).await;
    let new = CreateVm { vmid: vmid(150), config: Params::new(), pool: None };
    let error = client.qemu(&node()).create(&new).begin().await.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(server.lines(), ["POST /nodes/pve1/qemu"]);
}

#[tokio::test]
async fn a_node_that_was_not_reached_counts_as_not_sent() {
    let (_server, client) = answering([Says(595, "No route to host", "")]).await;
    assert!(client.storages(&node()).list().await.unwrap_err().never_sent());
    let (_server, client) = answering([Says(596, "Connection timed out", "")]).await;
    let new = CreateVm { vmid: vmid(150), config: Params::new(), pool: None };
    assert!(client.qemu(&node()).create(&new).begin().await.unwrap_err().outcome_unknown());
}

#[tokio::test]
async fn the_next_endpoint_is_tried_when_one_cannot_be_reached() {
    let server = Server::new([Recorded("version")]).await;
    let client = client(&["http://127.0.0.1:9", &server.url]);
    assert!(client.version().await.is_ok());
    assert_eq!(client.endpoint(), server.url);
}

#[tokio::test]
async fn a_user_logs_in_once_and_again_when_the_ticket_is_refused() {
    let answers =
        [Recorded("ticket"), Recorded("version"), Recorded("unauthorised"), Recorded("ticket"), Recorded("create")];
    let server = Server::new(answers).await;
    let auth = Auth::Password { username: "root@pam".into(), password: "a;b=c".into(), otp: None };
    let config = Config { endpoints: vec![server.url.clone()], auth, trust: Trust::System, per_node: 0 };
    let client = Client::new(config).unwrap();
    client.version().await.unwrap();
    let new = CreateVm { vmid: vmid(150), config: Params::new().with("boot", "order=scsi0;net0"), pool: None };
    client.qemu(&node()).create(&new).begin().await.unwrap();
    let seen = server.seen();
    let lines = [
        "POST /access/ticket",
        "GET /version",
        "POST /nodes/pve1/qemu",
        "POST /access/ticket",
        "POST /nodes/pve1/qemu",
    ];
    assert_eq!(server.lines(), lines);
    assert_eq!(seen[0].body, "username=root%40pam&password=a%3Bb%3Dc");
    let head = seen[4].head.to_lowercase();
    assert!(head.contains("csrfpreventiontoken: 6b0117db:csrf-hmac"), "{head}");
    assert!(head.contains("cookie: pveauthcookie=pve:root@pam:6b0117db::ticket-signature"), "{head}");
    assert_eq!(seen[4].body, "vmid=150&boot=order%3Dscsi0%3Bnet0");
}

#[tokio::test]
async fn an_upload_has_its_fields_in_the_servers_order() {
    let (server, client) = answering([Recorded("upload"), Recorded("upload-wrong-extension")]).await;
    let wanted = Upload {
        content: "iso",
        file_name: "seed.iso".into(),
        source: Source::Bytes(b"bytes".to_vec()),
        checksum: Some(("sha256".into(), "ab".into())),
    };
    let node = node();
    assert_eq!(client.storages(&node).upload("local", &wanted).await.unwrap().kind(), "imgcopy");
    let body = &server.seen()[0].body;
    let at = |field: &str| body.find(&format!("Content-Disposition: form-data; name=\"{field}\"")).unwrap();
    assert!(at("content") < at("checksum-algorithm") && at("checksum-algorithm") < at("checksum"), "{body}");
    assert!(at("checksum") < at("filename\"; filename=\"seed.iso"), "{body}");
    assert!(server.seen()[0].head.to_lowercase().contains("content-length"));
    let refused = client.storages(&node).upload("local", &wanted).await.unwrap_err();
    assert!(refused.to_string().contains("filename: wrong file extension"), "{refused}");
}

#[tokio::test]
async fn an_upload_is_cut_off_by_a_stop_and_by_the_deadline() {
    let (_server, client) = answering([Silent]).await;
    let source = Source::Bytes(b"bytes".to_vec());
    let wanted = Upload { content: "iso", file_name: "seed.iso".into(), source, checksum: None };
    let (node, stop) = (node(), CancellationToken::new());
    let stopped = client.within(Instant::now() + Duration::from_secs(20), &stop);
    let storages = stopped.storages(&node);
    let (ended, ()) = tokio::join!(storages.upload("local", &wanted), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    });
    assert!(matches!(ended, Err(Error::Stopped { .. })), "{ended:?}");
    let late = client.within(Instant::now() + Duration::from_millis(50), &CancellationToken::new());
    let ended = late.storages(&node).upload("local", &wanted).await;
    assert!(matches!(ended, Err(Error::Deadline { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_read_ends_with_the_deadline_and_soon_after_a_stop() {
    let server = Server::new([Silent]).await;
    let late = || client(&[&server.url]).within(Instant::now() + Duration::from_millis(50), &CancellationToken::new());
    assert!(matches!(late().version().await, Err(Error::Deadline { .. })));
    let Err(Error::Deadline { what }) = late().wait(&upid()).await else { panic!("the wait has no other end") };
    assert!(what.starts_with("the task UPID:pve1"), "{what}");

    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = client(&[&server.url]).within(Instant::now() + Duration::from_secs(60), &stop);
    tokio::time::pause();
    let began = Instant::now();
    assert!(matches!(stopped.version().await, Err(Error::Stopped { .. })));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_answer_to_a_write_that_was_sent_is_waited_for() {
    let sent = Arc::new(Barrier::new(2));
    let server = Server::new([Together(Arc::clone(&sent), Box::new(Recorded("create")))]).await;
    let stop = CancellationToken::new();
    let client = client(&[&server.url]).within(Instant::now() + Duration::from_millis(50), &stop);
    let over = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        sent.wait().await;
    };
    let (node, new) = (node(), CreateVm { vmid: vmid(150), config: Params::new(), pool: None });
    let create = async || client.qemu(&node).create(&new).begin().await;
    let (created, ()) = tokio::join!(create(), over);
    created.unwrap();
    assert!(matches!(create().await, Err(Error::Stopped { .. })), "and none is begun after it");
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let new = |url: &str, token: &str| {
        let auth = Auth::Token(token.to_owned());
        Client::new(Config { endpoints: vec![url.to_owned()], auth, trust: Trust::System, per_node: 0 })
    };
    assert!(new("https://pve1:8006/", "u@pve!t=x").is_ok());
    assert!(new("https://pve1:8006/api2/json", "u@pve!t=x").is_ok());
    for (url, token) in [
        ("pve1", "u@pve!t=x"),
        ("http://pve1:8006", "u@pve!t=x"),
        ("https://pve1", "u@pve"),
        ("https://pve1/x", "u@pve!t=x"),
    ] {
        assert!(new(url, token).is_err(), "{url} {token}");
    }
}

/// Resources hold calls many futures deep, each with a copy on the stack of a debug build.
#[test]
fn a_call_takes_little_of_its_callers_stack() {
    let client = client(&["http://127.0.0.1:9"]);
    let size = size_of_val(&client.version());
    assert!(size < 2048, "{size} bytes");
}

#[test]
fn one_fingerprint_for_several_nodes_is_refused() {
    let new = |endpoints: &[&str]| {
        let endpoints = endpoints.iter().map(|url| (*url).to_owned()).collect();
        let (auth, trust) = (Auth::Token("u@pve!t=x".to_owned()), Trust::Fingerprint("00".repeat(32)));
        Client::new(Config { endpoints, auth, trust, per_node: 0 }).map(|_| ())
    };
    assert_eq!(new(&["https://pve1:8006"]), Ok(()));
    assert_eq!(new(&["https://pve1:8006", "https://pve2:8006"]), Err(ConfigError::FingerprintOfMany));
}

#[tokio::test]
async fn an_error_without_end_is_told_by_its_reason_phrase() {
    let (_server, client) = answering([Endless(500)]).await;
    let error = client.version().await.unwrap_err();
    assert_eq!(error.refused().map(|refused| refused.message.as_str()), Some("It goes on"));
}
