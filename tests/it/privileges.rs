//! The role of the documentation is enough for everything the provider does: everything it has stands in `CONFIGURATION`.

use crate::harness::{Backend, Lab, Terraform, ready, repository};
use crate::quickstart::lab_is_empty;

const CONFIGURATION: &str = r#"
data "groundwork_version" "it" {}
data "groundwork_nodes" "all" {
  lifecycle {
    postcondition {
      condition     = self.nodes[0].cpus != null
      error_message = "the nodes have no numbers"
    }
  }
}
data "groundwork_storages" "all" {
  node = "pve1"
}
data "groundwork_vms" "all" {}
resource "groundwork_image" "downloaded" {
  node      = "pve1"
  storage   = "local"
  file_name = "downloaded.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_image" "uploaded" {
  node        = "pve1"
  storage     = "local"
  file_name   = "uploaded.qcow2"
  source_file = "FILE"
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image      = groundwork_image.downloaded.volume_id
  cores      = CORES
  memory_mib = 768
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 5
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    user = "admin"
    network "net0" { address = "ADDRESS/24" }
  }
}
resource "groundwork_pool" "one" {
  poolid  = "one"
  comment = "CORES cores"
}
resource "groundwork_vm" "copy" {
  node    = "pve1"
  name    = "copy"
  pool    = groundwork_pool.one.poolid
  clone {
    vmid = groundwork_vm.one.vmid
    full = true
  }
  started = false
}
"#;

/// Without it nothing is refused: the numbers of nodes are null, which the configuration's own condition finds.
const NULLS: &str = "Sys.Audit";
/// Wanted by VMs with a guest agent alone, which costs a creation the wait for one that never answers here.
const ASKS_GUESTS: &str = "VM.GuestAgent.Audit";

/// What asks Proxmox VE nothing, and why.
const ELSEWHERE: [(&str, &str); 4] = [
    (
        "groundwork_agent",
        "by SSH asks nothing; by the guest agent it has two privileges of its own, which `guest/hard.rs` tries",
    ),
    ("groundwork_machine", "speaks with the machine's agent alone"),
    ("groundwork_cluster", "speaks with agents alone"),
    ("groundwork_etcd_snapshot", "speaks with the agents of control planes alone"),
];

/// A new resource's missing privilege is found where it is applied, so it has to be.
#[test]
fn everything_that_asks_proxmox_is_applied_with_the_documented_privileges() {
    for (kind, pages) in [("resource", "docs/resources"), ("data", "docs/data-sources")] {
        // The generated pages are the provider's list.
        let pages = std::fs::read_dir(repository().join(pages)).expect("the pages").flatten();
        let names: Vec<String> = pages
            .filter_map(|page| Some(format!("groundwork_{}", page.file_name().to_str()?.strip_suffix(".md")?)))
            .collect();
        assert!(names.len() > 3, "{names:?}");
        for name in names.iter().filter(|name| !ELSEWHERE.iter().any(|(other, _)| other == name)) {
            let block = format!("{kind} \"{name}\" ");
            assert!(CONFIGURATION.contains(&block), "tests/it/privileges.rs applies no {kind} {name}");
        }
    }
}

#[test]
fn the_documented_privileges_are_enough() {
    if !ready() {
        return;
    }
    let lab = Lab::start("privileges", Backend::None, &[]);
    let guide = std::fs::read_to_string(repository().join("docs/guides/privileges.md")).expect("the guide");
    let privileges = guide.split("--privs \"").nth(1).and_then(|rest| rest.split('"').next()).expect("the role");
    let only: Vec<&str> = ["only"].into_iter().chain(privileges.split(' ')).collect();
    lab.control("fault", &only).exits(0);
    let terraform = Terraform::for_lab(&lab);
    let configuration = CONFIGURATION
        .replace("URL", &lab.value("LAB_IMAGE_URL"))
        .replace("SUM", &lab.value("LAB_IMAGE_SHA256"))
        .replace("FILE", &lab.value("LAB_IMAGE"))
        .replace("ADDRESS", &lab.address(31));
    for cores in ["1", "2"] {
        terraform.configure(&configuration.replace("CORES", cores));
        terraform.apply();
        terraform.has_no_changes();
    }
    terraform.destroy();
    lab_is_empty(&lab);

    // The lab really holds the token to it, and what lacks is named, also where Proxmox VE names nothing.
    for privilege in only.iter().copied().skip(1) {
        // A static address is not asked for.
        let with_agent = configuration
            .replace("cores      = CORES", "cores = 2\n  guest_agent = true")
            .replace(&format!("{}/24", lab.address(31)), "dhcp");
        let as_before = configuration.replace("CORES", "2");
        terraform.configure(if privilege == ASKS_GUESTS { &with_agent } else { &as_before });
        let without: Vec<&str> = only.iter().copied().filter(|other| *other != privilege).collect();
        lab.control("fault", &["clear"]).exits(0);
        lab.control("fault", &without).exits(0);
        let said = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        assert_ne!(said.code, 0, "{privilege} is in the role for nothing:\n{}", said.text);
        let flat = said.flat();
        let named = |rest: &str| rest.split(" on ").next().is_some_and(|names| names.contains(privilege));
        let cause =
            if privilege == NULLS { flat.contains("no numbers") } else { flat.split("Grant ").skip(1).any(named) };
        assert!(cause, "{privilege} is not named:\n{}", said.text);
        lab.control("fault", &["clear"]).exits(0);
        terraform.destroy();
    }
    lab_is_empty(&lab);
}
