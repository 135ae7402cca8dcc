//! The provider in a root that holds nothing but `terraform`, itself, `/etc/resolv.conf` and a bundle of CAs: no C library, no shell, no
//! folder for temporary files. Proxmox VE is called by its name there.

use crate::harness::run::{Said, command, run};
use crate::harness::terraform::{PLATFORM, program, version};
use crate::harness::{Backend, Lab, provider_binary, ready};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CONFIGURATION: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
data "groundwork_nodes" "all" {}
resource "groundwork_pool" "dev" {
  poolid  = "dev"
  comment = "${length(data.groundwork_nodes.all.nodes)} nodes"
}
"#;

const MIRROR: &str = r#"
provider_installation {
  filesystem_mirror {
    path = "/plugins"
  }
}
"#;

#[test]
fn terraform_and_the_provider_are_all_that_is_needed() {
    if !ready() {
        return;
    }
    let lab = Lab::start("empty-root", Backend::None, &[]);
    let endpoint = lab.value("GROUNDWORK_PROXMOX_ENDPOINTS");
    let (address, port) = endpoint.trim_start_matches("https://").rsplit_once(':').expect("https://address:port");
    let names = Names::serve("pve1.", address.parse().expect("an address"));
    let root = Root::made(&lab, &names);

    let there = format!("https://pve1:{port}");
    root.terraform(&lab, &there, &["init", "-input=false"]).exits(0);
    root.terraform(&lab, &there, &["plan", "-input=false", "-detailed-exitcode"]).exits(2);
    root.terraform(&lab, &there, &["apply", "-input=false", "-auto-approve"]).exits(0);
    root.terraform(&lab, &there, &["plan", "-input=false", "-detailed-exitcode"]).exits(0);
    assert!(names.were_asked(), "the name was asked for by DNS");

    let nowhere = format!("https://nowhere:{port}");
    root.terraform(&lab, &nowhere, &["plan", "-input=false"]).exits(1).says(&[
        "the name nowhere has no address",
        &format!("/etc/hosts and the DNS of {}: there is no such name", names.address),
        "there is no getent to ask",
    ]);
    root.terraform(&lab, &there, &["destroy", "-input=false", "-auto-approve"]).exits(0);
}

/// The root of a computer that has nothing else.
struct Root(tempfile::TempDir);

impl Root {
    fn made(lab: &Lab, names: &Names) -> Self {
        let root = Self(tempfile::tempdir().expect("a folder"));
        root.copy(&program(), "bin/terraform");
        let version = version();
        for registry in ["registry.terraform.io", "registry.opentofu.org"] {
            let folder = format!("plugins/{registry}/groundwork-tf/groundwork/{version}/{PLATFORM}");
            root.copy(&provider_binary(), &format!("{folder}/terraform-provider-groundwork_v{version}"));
        }
        root.write("etc/resolv.conf", &format!("nameserver {}\n", names.address));
        // Where programs look for the system's CAs; what the lab signs with is one of them here.
        root.write("etc/ssl/certs/ca-certificates.crt", &lab.value("GROUNDWORK_PROXMOX_CA_CERT_PEM"));
        root.write("work/main.tf", CONFIGURATION);
        root.write("work/terraform.rc", MIRROR);
        root
    }

    fn terraform(&self, lab: &Lab, endpoint: &str, arguments: &[&str]) -> Said {
        // By its path: the environment is empty, PATH included.
        run(command("/usr/sbin/chroot")
            .arg(self.0.path())
            .args(["/bin/terraform", "-chdir=/work"])
            .args(arguments)
            .arg("-no-color")
            .env_clear()
            .env("TF_CLI_CONFIG_FILE", "/work/terraform.rc")
            .env("CHECKPOINT_DISABLE", "1")
            .env("GROUNDWORK_PROXMOX_ENDPOINTS", endpoint)
            .env("GROUNDWORK_PROXMOX_API_TOKEN", lab.value("GROUNDWORK_PROXMOX_API_TOKEN")))
    }

    fn copy(&self, from: &Path, to: &str) {
        let to = self.0.path().join(to);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(from, to).expect("copy");
    }

    #[expect(clippy::disallowed_methods, reason = "a scratch file of a test needs no atomicity")]
    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("write");
    }
}

/// A DNS server that knows one name.
struct Names {
    address: Ipv4Addr,
    asked: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Names {
    #[track_caller]
    fn serve(name: &'static str, is: Ipv4Addr) -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low.max(1));
        let socket = UdpSocket::bind((address, 53)).expect("the port of DNS");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let (asked, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (sets, ends) = (Arc::clone(&asked), Arc::clone(&over));
        let server = std::thread::spawn(move || {
            let mut query = [0; 512];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut query) else { continue };
                let Some((answer, known)) = answer(&query[..length], name, is) else { continue };
                sets.fetch_or(known, Ordering::Relaxed);
                socket.send_to(&answer, from).ok();
            }
        });
        Self { address, asked, over, server: Some(server) }
    }

    fn were_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.server.take().map(JoinHandle::join);
    }
}

/// The answer to a query (RFC 1035, 4.1), and whether it was for the name: its address, that it has none of another kind, or that there
/// is no such name.
fn answer(query: &[u8], name: &str, is: Ipv4Addr) -> Option<(Vec<u8>, bool)> {
    let mut at = 12;
    let mut asked = String::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        asked.push_str(&String::from_utf8_lossy(query.get(at..at + length)?));
        asked.push('.');
        at += length;
    }
    let question = query.get(12..at + 4)?;
    let known = asked.eq_ignore_ascii_case(name);
    let with_address = known && query.get(at..at + 2)? == [0, 1];
    let code = if known { 0 } else { 3 };
    let mut answer = query.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(with_address), 0, 0, 0, 0]);
    answer.extend(question);
    if with_address {
        // The name of the question, an address, of the internet, for a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(is.octets());
    }
    Some((answer, known))
}
