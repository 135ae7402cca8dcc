//! `terraform validate` names the attribute of every bad value, before anything is asked of Proxmox.

use crate::harness::{Backend, Lab, Terraform, ready};

const HEAD: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
"#;

/// A good VM in which each case changes one thing.
const VM: &str = r#"
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  cores      = 2
  cpu_type   = "host"
  memory_mib = 512
  disks      = { scsi0 = { storage = "local-lvm", size_gib = 2 } }
  networks   = { net0 = { bridge = "vmbr0" } }
  cloud_init = { network = { net0 = { address = "10.77.0.11/24" } } }
}
"#;

/// Validates the VM with `from` replaced by `to`; the error must point at the line with `line` and say `word`.
#[track_caller]
fn check(from: &str, to: &str, word: &str) {
    assert!(VM.contains(from), "the good VM has {from:?}");
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{}", VM.replacen(from, to, 1)));
    let said = terraform.run(&["validate", "-no-color"]);
    assert_eq!(said.code, 1, "{to:?} passed validation");
    said.says(&["Error: ", "with groundwork_vm.one", word]);
}

#[test]
fn the_good_vm_is_valid() {
    if !ready() {
        return;
    }
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{VM}"));
    terraform.run(&["validate", "-no-color"]).exits(0);
}

#[test]
fn a_bad_value_is_named_by_its_attribute() {
    if !ready() {
        return;
    }
    check("10.77.0.11/24", "10.77.0.11/33", "address");
    check("10.77.0.11/24", "10.77.0.256/24", "address");
    check("scsi0", "scsi31x", "disks");
    check("scsi0", "scsi99", "disks");
    check("net0 = { bridge", "eth0 = { bridge", "networks");
    check("memory_mib = 512", "memory_mib = -512", "memory_mib");
    check("cores      = 2", "cores      = 0", "cores");
    check("\"host\"", "\"host,flags=+nonsense\"", "cpu_type");
    check("name       = \"one\"", "name       = \"one two\"", "name");
    check("size_gib = 2", "size_gib = 0", "size_gib");
    check("size_gib = 2 }", "size_gib = 2 }, ide2 = { storage = \"local-lvm\", size_gib = 3 }", "ide2");
}

#[test]
fn shrinking_a_disk_is_refused_at_plan() {
    if !ready() {
        return;
    }
    let lab = Lab::start("shrink", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let configuration = format!("{HEAD}{VM}").replace("cloud_init", "started = false\n  cloud_init");
    terraform.write("main.tf", &configuration);
    terraform.apply();
    terraform.write("main.tf", &configuration.replace("size_gib = 2", "size_gib = 1"));
    terraform.plan().exits(1).says(&["disks", "size_gib", "shrink"]);
}

/// A machine whose values are wrong, each by itself.
const VALUES: &str = r#"
resource "groundwork_machine" "one" {
  endpoint       = { address = "192.0.2.11:7443", fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
  hostname       = "CP_1"
  hosts          = { "10.0.0" = { names = ["cp-1"] }, "10.0.0.1" = { names = [] } }
  swap           = false
  kernel_modules = ["br_netfilter.ko"]
  sysctls        = { "net.ipv4.ip_forward" = "" }
  repositories   = { junk = { url = "ftp://192.0.2.1/apt", key_pem = "mQINBF" } }
  packages       = { "-f" = {}, nano = { version = "-o" } }
  files          = { "/etc/x/" = { content = "", mode = "0999", owner = "a b" } }
  services       = { "ssh.service" = { restart_on = ["etc/x"] } }
  filesystems = {
    "/dev/sdb"          = { kind = "ext4" }
    "/dev/disk/by-id/x" = { kind = "zfs", uuid = "X" }
  }
  mounts            = { "/data/" = { source = "/dev/x" }, "/srv" = { source = "a b", kind = "a b", options = ["ro,noatime"] } }
  container_runtime = { package = "docker", version = "-o", sandbox_image = "a b", registries = { "a/b" = { mirrors = ["file:///x"] } } }
  kubernetes        = { version = "1.23.17", repository = { url = "ftp://x", key_pem = "x" } }
  commands          = { none = { argv = ["true"], unless = [] } }
}
"#;

/// A machine whose values are wrong together, each of them good by itself.
const RULES: &str = r#"
resource "groundwork_machine" "one" {
  endpoint = { address = "192.0.2.11:7443", fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
  repositories = {
    bare  = { url = "file:///srv/apt" }
    suite = { url = "https://192.0.2.1/apt", trusted = true, suites = ["bookworm"] }
  }
  packages    = { vim = { absent = true, version = "1" } }
  files       = { "/etc/motd" = {} }
  services    = { "ssh.service" = { masked = true, running = true } }
  filesystems = { "/dev/disk/by-id/x" = { kind = "xfs", label = "thirteen-long" } }
  commands = {
    both = { argv = ["/bin/true"], creates = "/x", unless = ["/bin/true"] }
    none = { argv = ["/bin/true"] }
  }
}
"#;

/// A machine whose values are not known before the plan; `validate` takes every variable for that.
const LATER: &str = r#"
variable "later" {}
resource "groundwork_machine" "one" {
  endpoint = var.later
  hostname = var.later
  hosts    = { "10.0.0.1" = { names = [var.later] } }
  repositories = {
    one   = { url = var.later, key_url = var.later }
    other = { url = var.later, trusted = var.later, suites = ["bookworm"], components = var.later }
  }
  packages    = { vim = { absent = true, version = var.later } }
  files       = { "/etc/motd" = { content = var.later } }
  services    = { "ssh.service" = { masked = true, running = var.later } }
  filesystems = { "/dev/disk/by-id/x" = { kind = var.later, label = "thirteen-long" } }
  commands    = { one = { argv = [var.later], unless = var.later } }
}
"#;

#[test]
fn what_is_not_known_yet_is_no_bad_value() {
    if !ready() {
        return;
    }
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{LATER}"));
    terraform.run(&["validate", "-no-color"]).exits(0);
}

/// Each of the `wrong` ones is named, and nothing else.
#[track_caller]
fn check_machine(resource: &str, wrong: &[&str]) {
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{resource}"));
    let said = terraform.run(&["validate", "-no-color"]);
    let quoted: Vec<_> = wrong.iter().map(|path| format!("`{path}` ")).collect();
    said.exits(1).says(&quoted.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(said.text.matches("Error: ").count(), wrong.len(), "{}", said.text);
}

#[test]
fn every_bad_value_of_a_machine_is_named_by_its_attribute() {
    if !ready() {
        return;
    }
    let wrong = [
        r#"hostname"#,
        r#"hosts["10.0.0"]"#,
        r#"hosts["10.0.0.1"].names"#,
        r#"swap"#,
        r#"kernel_modules[0]"#,
        r#"sysctls["net.ipv4.ip_forward"]"#,
        r#"repositories["junk"].url"#,
        r#"repositories["junk"].key_pem"#,
        r#"packages["-f"]"#,
        r#"packages["nano"].version"#,
        r#"files["/etc/x/"]"#,
        r#"files["/etc/x/"].mode"#,
        r#"files["/etc/x/"].owner"#,
        r#"services["ssh.service"].restart_on[0]"#,
        r#"filesystems["/dev/sdb"]"#,
        r#"filesystems["/dev/disk/by-id/x"].kind"#,
        r#"filesystems["/dev/disk/by-id/x"].uuid"#,
        r#"mounts["/data/"]"#,
        r#"mounts["/srv"].source"#,
        r#"mounts["/srv"].kind"#,
        r#"mounts["/srv"].options[0]"#,
        r#"container_runtime.package"#,
        r#"container_runtime.version"#,
        r#"container_runtime.sandbox_image"#,
        r#"container_runtime.registries["a/b"]"#,
        r#"container_runtime.registries["a/b"].mirrors[0]"#,
        r#"kubernetes.version"#,
        r#"kubernetes.repository.url"#,
        r#"kubernetes.repository.key_pem"#,
        r#"commands["none"].argv"#,
        r#"commands["none"].unless"#,
    ];
    check_machine(VALUES, &wrong);
}

#[test]
fn values_of_a_machine_that_do_not_go_together_are_named() {
    if !ready() {
        return;
    }
    let wrong = [
        r#"repositories["bare"].key_pem"#,
        r#"repositories["suite"].components"#,
        r#"packages["vim"].absent"#,
        r#"files["/etc/motd"].content"#,
        r#"services["ssh.service"].masked"#,
        r#"filesystems["/dev/disk/by-id/x"].label"#,
        r#"commands["both"]"#,
        r#"commands["none"]"#,
    ];
    check_machine(RULES, &wrong);
}

/// A good cluster in which each case changes one thing.
const CLUSTER: &str = r#"
resource "groundwork_cluster" "one" {
  name              = "one"
  version           = "1.36.2"
  endpoint          = "api.example.org"
  certificate_names = ["api.example.net"]
  pod_subnet        = "10.244.0.0/16"
  control_planes    = { cp-1 = { endpoint = { address = "192.0.2.11:7443", fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000" } } }
  workers = {
    worker-1 = {
      endpoint = { address = "192.0.2.21:7443", fingerprint = "sha256:1111111111111111111111111111111111111111111111111111111111111111" }
      labels   = { "example.org/zone" = "a" }
      taints   = ["dedicated=db:NoSchedule"]
    }
  }
}
"#;

#[test]
fn a_bad_value_of_a_cluster_is_named_by_its_attribute() {
    if !ready() {
        return;
    }
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{CLUSTER}"));
    terraform.run(&["validate", "-no-color"]).exits(0);
    for (from, to, words) in [
        ("\"one\"\n  version", "\"one two\"\n  version", "`name`"),
        ("1.36.2", "1.23.17", "`version`"),
        ("\"api.example.org\"", "\"https://api.example.org:6443\"", "`endpoint`"),
        ("\"api.example.net\"", "\"https://api.example.net\"", "`certificate_names[0]`"),
        ("10.244.0.0/16", "10.100.0.0/16", "`pod_subnet`"),
        ("192.0.2.21", "192.0.2.11", "workers[\"worker-1\"]"),
        ("worker-1 =", "cp-1 =", "node name cp-1 twice"),
        ("example.org/zone", "-zone", "`workers[\"worker-1\"].labels[\"-zone\"]`"),
        ("= \"a\" }", "= \"a b\" }", "`workers[\"worker-1\"].labels[\"example.org/zone\"]`"),
        ("db:NoSchedule", "db:Sometimes", "`workers[\"worker-1\"].taints[0]`"),
    ] {
        assert!(CLUSTER.contains(from), "the good cluster has {from:?}");
        terraform.write("main.tf", &format!("{HEAD}{}", CLUSTER.replacen(from, to, 1)));
        let said = terraform.run(&["validate", "-no-color"]);
        assert_eq!(said.code, 1, "{to:?} passed validation");
        said.says(&["Error: ", "with groundwork_cluster.one", words]);
    }
}
