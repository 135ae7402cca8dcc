//! Over all steps at once: a machine from a template converges, a second look finds nothing, a cut anywhere is repaired by running
//! again, and an empty specification takes back what was ours.

mod packages;

use super::*;
use crate::host::fake::Fake;
use crate::run::{Failure, Outcome, Runner, What, apply, plan};
use agent_proto::fields;
use expect_test::{Expect, expect, expect_file};
use std::sync::Arc;
use tokio_stream::StreamExt as _;

/// Everything a machine can be asked for.
const FULL: &str = r#"{
    "hostname": "cp-1",
    "host": {"10.0.0.11": {"names": ["cp-1", "cp-1.lan"]}},
    "kernel_modules": ["nf_conntrack"],
    "sysctls": {"net.ipv4.ip_local_port_range": "10000 60999"},
    "package": {"nginx": {}, "telnet": {"absent": true}},
    "repository": {"extra": {"url": "https://example.org/apt", "key_url": "https://example.org/key.asc"}},
    "proxy": {"http": "http://proxy:3128", "no_proxy": ["lab"]},
    "file": {
        "/etc/motd": {"content": "Ours.\n"},
        "/etc/systemd/system/nginx.service.d/limits.conf": {"content": "[Service]\nLimitNOFILE=4096\n"},
        "/etc/secret": {"content": "hunter2", "mode": "0600", "owner": "www-data"}
    },
    "service": {"nginx": {"enabled": true, "running": true, "restart_on": ["/etc/motd"]}, "fstrim.timer": {"enabled": true}},
    "filesystem": {"/dev/disk/by-id/scsi-data": {"kind": "ext4", "label": "data"}},
    "mount": {"/var/lib/data": {"source": "/dev/disk/by-id/scsi-data"}},
    "kubernetes": {"version": "1.28.4", "repository": {"url": "http://lab/k8s/", "key_pem": "-----BEGIN PGP"}},
    "command": {"once": {"argv": ["/usr/bin/touch", "/var/once"], "creates": "/var/once"}}
}"#;

/// The tests below ask only for what is in [`FULL`].
#[test]
fn everything_a_machine_can_be_asked_for_is_asked_for() {
    let used = fields::used(&full().complete());
    let missing: Vec<_> =
        fields::known().into_iter().filter(|name| !name.contains('.') && !used.contains(name)).collect();
    assert_eq!(missing, ["time_sync"], "which changes nothing: `gates`");
}

fn full() -> Spec {
    Spec::from_json(FULL).unwrap()
}

/// Applies as the agent does, and returns how it ended and the whole story.
async fn run(host: &Arc<Fake>, spec: &Spec) -> (Result<Outcome, Failure>, Vec<What>) {
    let runner = Runner::new(Arc::<Fake>::clone(host));
    let spec = spec.clone();
    let id = runner.start("apply", |cx| apply(cx, spec)).unwrap();
    let story: Vec<_> = runner.attach(&id).unwrap().map(|event| event.what).collect().await;
    let end = match story.last().unwrap() {
        What::Finished(outcome) => Ok(*outcome),
        What::Failed(failure) => Err(failure.clone()),
        other => panic!("a story that ends with {other:?}"),
    };
    (end, story)
}

async fn lines(host: &Fake, spec: &Spec) -> Vec<String> {
    plan(host, spec).await.unwrap().changes.iter().map(ToString::to_string).collect()
}

async fn check(host: &Fake, spec: &Spec, expect: Expect) {
    expect.assert_eq(&(lines(host, spec).await.join("\n") + "\n"));
}

async fn converged() -> Arc<Fake> {
    let host = Arc::new(Fake::template());
    run(&host, &full()).await.0.unwrap();
    host
}

#[tokio::test(start_paused = true)]
async fn a_machine_from_a_template_needs_all_of_it() {
    let needed = lines(&Fake::template(), &full()).await.join("\n") + "\n";
    expect_file!["tests/template.txt"].assert_eq(&needed);
}

#[tokio::test(start_paused = true)]
async fn a_second_look_finds_nothing_and_starts_nothing() {
    let host = converged().await;
    host.log();
    assert_eq!(lines(&host, &full()).await, [""; 0]);
    let (end, _) = run(&host, &full()).await;
    assert_eq!(end.unwrap(), Outcome::default());
    assert_eq!(host.log(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_anywhere_is_repaired_by_running_again() {
    let whole = converged().await;
    let want = whole.picture();
    for cut in 0..whole.changes() {
        let host = Arc::new(Fake::template());
        host.die_after(Some(cut));
        let (end, _) = run(&host, &full()).await;
        assert!(end.is_err(), "cut {cut}");
        host.die_after(None);
        if let Err(failure) = run(&host, &full()).await.0 {
            panic!("cut {cut} is not repaired: {failure:?}");
        }
        assert_eq!(lines(&host, &full()).await, [""; 0], "cut {cut}");
        let differs =
            |(path, what): &(String, String)| want.get(path) != Some(what) && !path.starts_with("/run/groundwork");
        let other: Vec<_> = host.picture().into_iter().filter(differs).collect();
        assert!(other.is_empty() && want.keys().all(|path| host.has(path)), "cut {cut}: {other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn drift_is_named_and_only_that_is_repaired() {
    let host = converged().await;
    host.put("/etc/motd", "changed\n");
    host.put("/proc/sys/net/ipv4/ip_forward", "0\n");
    host.take("/etc/modules-load.d/groundwork.conf");
    host.put("/proc/swaps", "Filename\n/swap.img file 2097148 0 -2\n");
    let status = host.text("/var/lib/dpkg/status").unwrap();
    host.put("/var/lib/dpkg/status", &status.replacen("hold ok", "install ok", 1));
    host.log();
    check(
        &host,
        &full(),
        expect![[r#"
        swap: /swap.img is active
        kernel_modules: /etc/modules-load.d/groundwork.conf is missing
        sysctls: net.ipv4.ip_forward is 0, not 1
        packages: containerd is not held
        files: /etc/motd differs
        services: nginx.service is older than /etc/motd
    "#]],
    )
    .await;
    run(&host, &full()).await.0.unwrap();
    expect![[r#"
        /usr/sbin/swapoff /swap.img
        /usr/bin/dpkg --set-selections
        /usr/bin/systemctl restart -- nginx.service
    "#]]
    .assert_eq(&(host.log().join("\n") + "\n"));
    assert_eq!(lines(&host, &full()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_specification_takes_back_what_was_ours() {
    let host = converged().await;
    run(&host, &Spec::default()).await.0.unwrap();
    assert_eq!(lines(&host, &Spec::default()).await, [""; 0]);
    assert_eq!(host.text("/etc/motd").as_deref(), Some("Debian\n"));
    assert_eq!(host.text("/etc/secret"), None);
    assert_eq!(host.text("/etc/systemd/zram-generator.conf").as_deref(), Some("[zram0]\nzram-size = ram\n"));
    let ours: Vec<_> = host.picture().into_keys().filter(|path| path.contains("groundwork")).collect();
    assert_eq!(ours, ["/etc/systemd/system/extra.swap.d/groundwork.conf"], "swap stays off");
    assert!(!host.text("/var/lib/dpkg/status").unwrap().contains("hold ok"), "holds of ours are gone");
}

#[tokio::test(start_paused = true)]
async fn a_link_comes_back_when_its_file_is_no_longer_declared() {
    let host = Arc::new(Fake::template());
    host.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    let spec = Spec::from_json(r#"{"file": {"/etc/resolv.conf": {"content": "nameserver 192.0.2.1\n"}}}"#).unwrap();
    run(&host, &spec).await.0.unwrap();
    assert_eq!(host.text("/etc/resolv.conf").as_deref(), Some("nameserver 192.0.2.1\n"));
    run(&host, &Spec::default()).await.0.unwrap();
    assert_eq!(host.picture()["/etc/resolv.conf"], "-> ../run/systemd/resolve/stub-resolv.conf");
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_does_not_run_as_its_owner() {
    let host = Arc::new(Fake::template());
    host.chmod("/etc/motd", 0o6755);
    let spec = Spec::from_json(r#"{"file": {"/etc/motd": {"content": "Ours.\n"}}}"#).unwrap();
    run(&host, &spec).await.0.unwrap();
    run(&host, &Spec::default()).await.0.unwrap();
    assert_eq!(host.picture()["/etc/motd"], "755 0:0 Debian\n");
}

#[tokio::test(start_paused = true)]
async fn a_users_link_keeps_nothing_but_its_own_file_from_coming_back() {
    let spec = |files: &str| Spec::from_json(&format!(r#"{{"file": {{{files}}}}}"#)).unwrap();
    let (app, motd) = (r#""/home/bob/conf/app": {"content": "x"}"#, r#""/etc/motd": {"content": "Ours.\n"}"#);
    let host = Arc::new(Fake::template());
    host.put("/home/bob/conf/app", "bob's\n");
    run(&host, &spec(app)).await.0.unwrap();
    let converged = host.picture();

    host.users_link(Some("/home/bob/conf"));
    // Still declared: a difference that says why, for the plan; an error for who applies it.
    let found = lines(&host, &spec(app)).await;
    assert_eq!(found, ["files: cannot be as declared: cannot reach /home/bob/conf/app: a user's link"]);
    run(&host, &spec(app)).await.0.unwrap_err();
    assert_eq!(host.picture(), converged, "nothing was kept or written");

    // No longer declared: the rest of the machine goes on.
    let (end, story) = run(&host, &spec(motd)).await;
    assert_eq!(end.unwrap().changes, 1);
    let reason = "what stood at /home/bob/conf/app is not put back: cannot reach /home/bob/conf/app: a user's link";
    assert!(story.contains(&What::Skipped { step: "files".into(), reason: reason.into() }), "{story:?}");
    assert_eq!(host.text("/etc/motd").as_deref(), Some("Ours.\n"));

    host.users_link(None);
    run(&host, &spec(motd)).await.0.unwrap();
    assert_eq!(host.text("/home/bob/conf/app").as_deref(), Some("bob's\n"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_put_back_ends_no_run() {
    let host = Arc::new(Fake::template());
    let spec = Spec::from_json(r#"{"file": {"/etc/motd": {"content": "Ours.\n"}}}"#).unwrap();
    run(&host, &spec).await.0.unwrap();
    host.take("/var/lib/groundwork/originals/files/%2Fetc%2Fmotd.content");
    let (end, story) = run(&host, &Spec::from_json(r#"{"kernel_modules": ["nf_conntrack"]}"#).unwrap()).await;
    assert_eq!(end.unwrap().changes, 2, "the modules");
    let told = |what: &&What| matches!(what, What::Skipped { reason, .. } if reason.contains("/etc/motd"));
    assert_eq!(story.iter().filter(told).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_original_goes_with_the_file_to_another_step() {
    let runtime = r#"{"container_runtime": {}}"#;
    let host = Arc::new(Fake::template());
    host.put("/etc/containerd/config.toml", "an administrator's\n");
    run(&host, &Spec::from_json(runtime).unwrap()).await.0.unwrap();
    let ours = host.text("/etc/containerd/config.toml").unwrap();
    for content in [&ours, "another"] {
        let file = serde_json::json!({"file": {"/etc/containerd/config.toml": {"content": content}}});
        let file = Spec::from_json(&file.to_string()).unwrap();
        run(&host, &file).await.0.unwrap();
        assert_eq!(host.text("/etc/containerd/config.toml").as_deref(), Some(content));
        assert_eq!(lines(&host, &file).await, [""; 0]);
    }
    run(&host, &Spec::default()).await.0.unwrap();
    assert_eq!(host.text("/etc/containerd/config.toml").as_deref(), Some("an administrator's\n"));
}

#[tokio::test(start_paused = true)]
async fn a_container_leaves_out_what_is_its_hosts() {
    let host = Arc::new(Fake::container());
    let (end, story) = run(&host, &full()).await;
    end.unwrap();
    let skipped: Vec<_> = story
        .iter()
        .filter_map(|what| match what {
            What::Skipped { step, reason } => Some(format!("{step}: {reason}\n")),
            _ => None,
        })
        .collect();
    expect![[r#"
        swap: in a container (systemd-nspawn) swap belongs to the host
        kernel_modules: br_netfilter, nf_conntrack, overlay: a container (systemd-nspawn) uses its host's kernel
        sysctls: net.bridge.bridge-nf-call-ip6tables: this container (systemd-nspawn) does not have it
        sysctls: net.bridge.bridge-nf-call-iptables: this container (systemd-nspawn) does not have it
        filesystems: /dev/disk/by-id/scsi-data: a container (systemd-nspawn) has no disks of its own
        mounts: /var/lib/data: a container (systemd-nspawn) does not mount /dev/disk/by-uuid/b0374a45-d18f-8ac1-898d-23f82539689d
    "#]].assert_eq(&skipped.concat());
    assert_eq!(lines(&host, &full()).await, [""; 0]);
    assert!(host.text("/etc/modules-load.d/groundwork.conf").unwrap().contains("br_netfilter"));
}

#[tokio::test(start_paused = true)]
async fn no_content_is_ever_told() {
    let host = Arc::new(Fake::template());
    let (_, story) = run(&host, &full()).await;
    assert!(!format!("{story:?} {:?}", plan(&*host, &full()).await).contains("hunter2"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_restarts_what_depends_on_it_once() {
    let host = converged().await;
    host.put("/etc/motd", "changed\n");
    host.log();
    run(&host, &full()).await.0.unwrap();
    assert_eq!(host.log(), ["/usr/bin/systemctl restart -- nginx.service"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_drop_in_is_read_and_in_force() {
    let host = converged().await;
    let path = "/etc/systemd/system/nginx.service.d/limits.conf";
    host.put(path, "changed\n");
    check(
        &host,
        &full(),
        expect![[r#"
            files: /etc/systemd/system/nginx.service.d/limits.conf differs
            units: nginx.service: systemd has not read /etc/systemd/system/nginx.service.d/limits.conf
            units: nginx.service runs without /etc/systemd/system/nginx.service.d/limits.conf
        "#]],
    )
    .await;
    host.log();
    run(&host, &full()).await.0.unwrap();
    assert_eq!(host.log(), ["/usr/bin/systemctl daemon-reload", "/usr/bin/systemctl restart -- nginx.service"]);
    assert_eq!(lines(&host, &full()).await, [""; 0]);
    // Written by hand and never read: what is on the disk is right, and the service runs without it.
    host.put(path, &host.text(path).unwrap());
    assert_eq!(lines(&host, &full()).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_reaches_what_runs_and_is_taken_back() {
    let host = converged().await;
    let place = "/etc/systemd/system/containerd.service.d/groundwork-proxy.conf";
    let text = host.text(place).unwrap();
    let none = "NO_PROXY=lab,localhost,127.0.0.1,::1,.svc,.cluster.local,192.0.2.0/24";
    assert!(text.contains("\"HTTP_PROXY=http://proxy:3128\"") && text.contains(none), "{text}");
    let apt = host.text("/etc/apt/apt.conf.d/95groundwork-proxy").unwrap();
    assert!(apt.contains("Acquire::http::Proxy::lab \"DIRECT\";"), "{apt}");
    let mut other = full().given().clone();
    other.proxy.as_mut().unwrap().http = Some("http://other:3128".to_owned());
    host.log();
    run(&host, &other.clone().try_into().unwrap()).await.0.unwrap();
    assert_eq!(host.log(), ["/usr/bin/systemctl daemon-reload", "/usr/bin/systemctl restart -- containerd.service"]);
    other.proxy = None;
    run(&host, &other.try_into().unwrap()).await.0.unwrap();
    let restart = "/usr/bin/systemctl restart -- containerd.service";
    assert_eq!(host.log(), ["/usr/bin/systemctl daemon-reload", restart, "/usr/bin/systemctl daemon-reload"]);
    assert!(!host.has(place) && !host.has("/etc/apt/apt.conf.d/95groundwork-proxy"));
}

#[tokio::test(start_paused = true)]
async fn what_would_do_harm_is_refused_by_name() {
    let host = Fake::template();
    host.put("/etc/kubernetes/kubelet.conf", "");
    let host = Arc::new(host);
    let found = lines(&host, &full()).await;
    assert!(found[0].starts_with("hostname: cannot be as declared: the name \"cp-1\" is refused"), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("commands: ")), "the others go on: {found:?}");
    assert_eq!(run(&host, &full()).await.0.unwrap_err().step, "hostname");

    let host = Fake::template();
    host.device("/dev/sdb", crate::host::Probe { size: 1 << 30, zeros: false, busy: false });
    let found = lines(&host, &full()).await;
    assert!(found.iter().any(|line| line.starts_with("filesystems: ") && line.contains("not blank")), "{found:?}");

    let host = Fake::template();
    host.put("/proc/meminfo", "MemAvailable: 10 kB\n");
    host.put("/proc/swaps", "Filename\n/swap.img file 100 50 -2\n");
    let found = lines(&host, &full()).await;
    assert!(found.iter().any(|line| line.starts_with("swap: cannot be as declared: ")), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_installation_is_finished_first() {
    let host = converged().await;
    let status = host.text("/var/lib/dpkg/status").unwrap();
    host.put("/var/lib/dpkg/status", &status.replacen("install ok installed", "install ok half-configured", 1));
    host.log();
    let found = lines(&host, &full()).await;
    assert!(found[0].contains("an earlier installation was interrupted"), "{found:?}");
    run(&host, &full()).await.0.unwrap();
    assert!(host.log().iter().any(|line| line.starts_with("/usr/bin/dpkg --configure -a")));
}
