//! A virtual address that routers are told of by BGP: kube-vip from the lab's registry, and a real router, BIRD, in a network of its own beside
//! the machines, which has the address from nobody else.

use crate::harness::run::{command, run};
use crate::harness::{Backend, Lab, long_ready, repository, wait_until};
use crate::quickstart::{self, lab_is_empty, nodes, nodes_are_ready};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// Of a network that is nobody's here.
const VIRTUAL: &str = "198.51.100.10";

#[test]
fn a_router_learns_the_virtual_address_and_the_api_answers_through_it() {
    if !long_ready() {
        return;
    }
    let lab = Lab::start("routed", Backend::Nspawn, &["--kubernetes", "kube-vip"]);
    let router = Router::start(&lab);
    let terraform = quickstart::prepare(&lab, 0);
    let mut over: Value = serde_json::from_str(&lab.file("quickstart_override.tf.json")).expect("JSON");
    over["resource"]["groundwork_cluster"]["main"]["kube_vip"] = json!({
        "address": VIRTUAL, "interface": "lo",
        "bgp": { "asn": 64512, "peer": { (lab.address(ROUTER)): { "asn": 64513 } } },
    });
    terraform.write("lab_override.tf.json", &over.to_string());
    terraform.apply();
    assert_eq!(nodes(&lab), ["cp-1"]);
    nodes_are_ready(&lab);
    terraform.has_no_changes();
    assert_eq!(terraform.resource("groundwork_cluster.main")["api_endpoint"], json!(format!("{VIRTUAL}:6443")));

    wait_until("the router has learned the address", || router.leads_to(&lab.address(11)));
    assert_eq!(router.asks("/readyz"), "ok", "through the router's own route");
    eprintln!("{}", router.routes());
    // It is announced for as long as kube-vip runs, and again when it comes back.
    lab.must("cp-1", "mv /etc/kubernetes/manifests/kube-vip.yaml /root/");
    wait_until("the router has forgotten the address", || !router.leads_to(&lab.address(11)));
    lab.must("cp-1", "mv /root/kube-vip.yaml /etc/kubernetes/manifests/");
    wait_until("the router has learned it again", || router.leads_to(&lab.address(11)));
    assert_eq!(router.asks("/readyz"), "ok");
    terraform.has_no_changes();
    terraform.destroy();
    lab_is_empty(&lab);
}

/// BIRD, in a namespace that the lab takes away with its own.
struct Router {
    namespace: String,
    birdc: PathBuf,
    folder: tempfile::TempDir,
    running: Child,
}

impl Router {
    fn start(lab: &Lab) -> Self {
        let (network, folder) = (lab.value("LAB_SUBNET"), tempfile::tempdir().expect("a folder"));
        let number = network.split('.').nth(2).expect("10.77.N.0/24").to_owned();
        let (lab_namespace, namespace) = (format!("gwlab{number}"), format!("gwlab{number}-router"));
        let (own, cp) = (lab.address(ROUTER), lab.address(11));
        let script = format!(
            "ip netns add {namespace}; ip -n {lab_namespace} link add router type veth peer name eth0 netns {namespace}; \
             ip -n {lab_namespace} link set router master vmbr0 up; ip -n {namespace} link set lo up; \
             ip -n {namespace} address add {own}/24 dev eth0; ip -n {namespace} link set eth0 up"
        );
        let said = run(command("sh").args(["-ec", &script]));
        assert_eq!(said.code, 0, "{}", said.text);
        let config = format!(
            "log stderr all;\nrouter id {own};\nprotocol device {{}}\nprotocol kernel {{ ipv4 {{ import none; export all; }}; }}\n\
             protocol bgp machines {{ local {own} as 64513; neighbor {cp} as 64512; passive on; ipv4 {{ import all; export none; }}; }}\n"
        );
        let file = folder.path().join("bird.conf");
        let written = std::fs::File::create(&file).and_then(|mut file| file.write_all(config.as_bytes()));
        written.expect("BIRD's configuration");
        let fetch =
            format!("cd {} && . scripts/setup.sh && need_bird >&2 && echo \"$PROGRAM\"", repository().display());
        let said = run(command("bash").args(["-c", &fetch]));
        let bird = PathBuf::from(said.exits(0).text.lines().find(|line| line.ends_with("/bird")).expect("BIRD's path"));
        let mut program = command("ip");
        program.args(["netns", "exec", &namespace]).arg(&bird).arg("-f").arg("-c").arg(&file);
        program.arg("-s").arg(folder.path().join("control")).arg("-P").arg(folder.path().join("pid"));
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let running = program.stdout(Stdio::null()).stderr(log).spawn().expect("BIRD starts");
        let router = Self { namespace, birdc: bird.with_file_name("birdc"), folder, running };
        wait_until("BIRD answers", || router.routes().contains("Table") || router.routes().contains("BIRD"));
        router
    }

    fn routes(&self) -> String {
        let control = self.folder.path().join("control");
        run(command(&self.birdc).arg("-s").arg(control).args(["show", "route"])).text
    }

    /// Whether both BIRD and, by its hand, the kernel send packets for the address there.
    fn leads_to(&self, machine: &str) -> bool {
        let kernel = run(command("ip").args(["-n", &self.namespace, "route", "show", VIRTUAL])).text;
        self.routes().contains(&format!("{VIRTUAL}/32")) && kernel.contains(&format!("via {machine} "))
    }

    /// What the API server answers by its virtual address.
    fn asks(&self, path: &str) -> String {
        let url = format!("https://{VIRTUAL}:6443{path}");
        let curl = [
            "netns",
            "exec",
            &self.namespace,
            "curl",
            "--silent",
            "--show-error",
            "--insecure",
            "--max-time",
            "10",
            &url,
        ];
        run(command("ip").args(curl)).text
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        drop(self.running.kill());
        drop(self.running.wait());
        run(command("ip").args(["netns", "delete", &self.namespace]));
    }
}

/// Number of the router in the lab's network.
const ROUTER: u8 = 9;
