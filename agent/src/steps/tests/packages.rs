//! What packages, their sources and their services do to a machine that was not empty before.

use super::*;
use agent_proto::v1::machine::{ContainerRuntimeSpec, PackageSpec};

#[tokio::test(start_paused = true)]
async fn a_machine_with_dockers_containerd_keeps_it() {
    let host = Arc::new(Fake::template());
    let status = host.text("/var/lib/dpkg/status").unwrap();
    host.put(
        "/var/lib/dpkg/status",
        &format!("Package: containerd.io\nStatus: install ok installed\nVersion: 1.7.24-1\n\n{status}"),
    );
    host.put("/usr/lib/systemd/system/containerd.service", "[Service]\n");
    run(&host, &full()).await.0.unwrap();
    let status = host.text("/var/lib/dpkg/status").unwrap();
    assert!(status.contains("Package: containerd.io\nStatus: hold ok installed"), "{status}");
    assert!(!status.contains("Package: containerd\n"), "{status}");
    assert_eq!(lines(&host, &full()).await, [""; 0]);

    // Asked for by name it would be put in its place: that is refused, and said.
    let mut spec = full().given().clone();
    spec.container_runtime = Some(ContainerRuntimeSpec { package: Some("containerd".into()), ..Default::default() });
    let Err(failure) = run(&host, &spec.try_into().unwrap()).await.0 else { panic!("containerd.io was removed") };
    assert!(failure.message.contains("apt would remove containerd.io for it"), "{}", failure.message);

    // Declared absent it goes, and the usual one comes.
    let mut spec = full().given().clone();
    spec.package.insert("containerd.io".into(), PackageSpec { absent: Some(true), ..Default::default() });
    run(&host, &spec.try_into().unwrap()).await.0.unwrap();
    assert!(host.text("/var/lib/dpkg/status").unwrap().contains("Package: containerd\nStatus: hold ok installed"));
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_agent_left_of_an_installation_is_taken_away() {
    let host = converged().await;
    for timer in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
        host.link(&format!("/run/systemd/system/{timer}"), "/dev/null");
    }
    assert_eq!(lines(&host, &full()).await, [""; 0], "somebody else's masks");
    host.put("/run/groundwork-apt-timers", "");
    check(
        &host,
        &full(),
        expect![[r#"
            packages: an interrupted installation keeps apt-daily.timer from running
            packages: an interrupted installation keeps apt-daily-upgrade.timer from running
            packages: systemd has not read that apt's timers may run
            packages: apt's timers were stopped for an installation
            packages: /run/groundwork-apt-timers is left
        "#]],
    )
    .await;
    host.log();
    run(&host, &full()).await.0.unwrap();
    assert_eq!(host.log(), ["/usr/bin/systemctl daemon-reload", "/usr/bin/systemctl start -- timers.target"]);
    assert!(!host.has("/run/systemd/system/apt-daily.timer"));
    assert_eq!(lines(&host, &full()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_source_in_the_way_is_switched_off_and_comes_back() {
    let host = Arc::new(Fake::template());
    let (path, theirs) = ("/etc/apt/sources.list.d/k8s.list", "deb [signed-by=/k.gpg] http://lab/k8s /\n");
    host.put(path, theirs);
    run(&host, &full()).await.0.unwrap();
    assert!(host.text(path).unwrap().starts_with('#'));
    assert_eq!(lines(&host, &full()).await, [""; 0]);
    run(&host, &Spec::default()).await.0.unwrap();
    assert_eq!(host.text(path).as_deref(), Some(theirs));
}

#[tokio::test(start_paused = true)]
async fn only_a_declared_version_is_pinned() {
    let host = converged().await;
    expect![[r#"
        # Written by Groundwork; changes made here are taken back.

        # Held: containerd
        # Held: kubeadm
        # Held: kubectl
        # Held: kubelet

        Package: kubeadm
        Pin: version 1.28.4-*
        Pin-Priority: 1001

        Package: kubectl
        Pin: version 1.28.4-*
        Pin-Priority: 1001

        Package: kubelet
        Pin: version 1.28.4-*
        Pin-Priority: 1001
    "#]]
    .assert_eq(&host.text("/etc/apt/preferences.d/groundwork").unwrap());
}

/// One that runs pods: kubeadm has started its kubelet.
async fn member() -> Arc<Fake> {
    let host = converged().await;
    host.put("/etc/kubernetes/kubelet.conf", "");
    host.start("kubelet.service");
    assert_eq!(lines(&host, &full()).await, [""; 0]);
    host
}

fn version(version: &str) -> Spec {
    Spec::from_json(&FULL.replace("1.28.4", version)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_nodes_programs_are_left_to_its_cluster() {
    for wanted in ["1.28.7", "1.29.0"] {
        let host = member().await;
        let want = version(wanted);
        let plan = plan(&*host, &want).await.unwrap();
        let left: Vec<_> = plan.skipped.iter().map(|left| left.reason.as_str()).collect();
        let line = |name: &str| {
            format!(
                "{name} is 1.28.4-1.1, not {wanted}-*: this machine is a node, and `version` of its `groundwork_cluster` brings another one"
            )
        };
        assert_eq!(left, ["kubeadm", "kubectl", "kubelet"].map(line));
        host.log();
        run(&host, &want).await.0.unwrap();
        let log = host.log().join("\n");
        assert!(!log.contains("apt-get install") && !log.contains("restart"), "{log}");
        assert_eq!(declared(&*host, "kubelet").unwrap().unwrap(), format!("{wanted}-*"));
        assert_eq!(lines(&host, &want).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_lacks_is_installed() {
    let host = member().await;
    let status = host.text("/var/lib/dpkg/status").unwrap();
    host.put("/var/lib/dpkg/status", &status.replace("Package: kubectl\n", "Package: other\n"));
    run(&host, &full()).await.0.unwrap();
    assert!(host.text("/var/lib/dpkg/status").unwrap().contains("Package: kubectl\n"));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_no_longer_declared_is_no_longer_used() {
    let host = converged().await;
    let path = |registry: &str| format!("/etc/containerd/certs.d/{registry}/hosts.toml");
    host.put(&path("quay.io"), "server = \"https://quay.io\"\n");
    let mirrored = |registries: &str| {
        let runtime = format!("{{\"container_runtime\": {{\"registry\": {registries}}}, ");
        Spec::from_json(&FULL.replacen('{', &runtime, 1)).unwrap()
    };
    let both = r#"{"docker.io": {"mirrors": ["http://m"], "ca_pem": "-----BEGIN CERTIFICATE-----"}, "quay.io": {"mirrors": ["http://m"]}}"#;
    run(&host, &mirrored(both)).await.0.unwrap();
    assert!(host.text(&path("quay.io")).unwrap().contains("http://m"));
    assert_eq!(lines(&host, &mirrored(both)).await, [""; 0]);

    check(
        &host,
        &mirrored(r#"{"docker.io": {"mirrors": ["http://m"]}}"#),
        expect![[r#"
            container_runtime: /etc/containerd/certs.d/docker.io/ca.crt is no longer declared
            container_runtime: /etc/containerd/certs.d/quay.io/hosts.toml is no longer declared
            container_runtime: /etc/containerd/certs.d/docker.io/hosts.toml differs
        "#]],
    )
    .await;
    check(
        &host,
        &full(),
        expect![[r#"
            container_runtime: /etc/containerd/certs.d/docker.io/ca.crt is no longer declared
            container_runtime: /etc/containerd/certs.d/docker.io/hosts.toml is no longer declared
            container_runtime: /etc/containerd/certs.d/quay.io/hosts.toml is no longer declared
        "#]],
    )
    .await;
    run(&host, &full()).await.0.unwrap();
    assert_eq!(host.text(&path("quay.io")).as_deref(), Some("server = \"https://quay.io\"\n"));
    let left: Vec<_> = host.picture().into_keys().filter(|path| path.contains("certs.d")).collect();
    assert_eq!(left, [path("quay.io")]);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_fetched_again_from_another_address_and_must_be_one() {
    let host = converged().await;
    let at = |url: &str| Spec::from_json(&FULL.replace("https://example.org/key.asc", url)).unwrap();
    run(&host, &at("https://example.org/new.asc")).await.0.unwrap();
    let key = || host.text("/etc/apt/keyrings/groundwork-extra.asc").unwrap();
    assert!(key().ends_with("fetched from https://example.org/new.asc\n"), "{}", key());
    assert_eq!(lines(&host, &at("https://example.org/new.asc")).await, [""; 0]);

    let Err(failure) = run(&host, &at("https://example.org/login.html")).await.0 else { panic!("a page is no key") };
    assert_eq!(
        failure.message,
        "the key from https://example.org/login.html is refused: what was fetched is no OpenPGP key, perhaps the page of a proxy or \
         of a login; nothing was written. Correct `key_url`, or give the key as `key_pem`"
    );
    assert!(key().ends_with("new.asc\n"));
}
