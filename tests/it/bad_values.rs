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
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 2
  }
  network "net0" { bridge = "vmbr0" }
  cloud_init {
    network "net0" { address = "10.77.0.11/24" }
  }
}
"#;

/// Validates the VM with `from` replaced by `to`; the error must point at the line with `line` and say `word`.
#[track_caller]
fn check(from: &str, to: &str, word: &str) {
    check_of(VM, from, to, word);
}

/// The same with another good VM.
#[track_caller]
fn check_of(good: &str, from: &str, to: &str, word: &str) {
    assert!(good.contains(from), "the good VM has {from:?}");
    let terraform = Terraform::new(Vec::new());
    terraform.write("main.tf", &format!("{HEAD}{}", good.replacen(from, to, 1)));
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
    check("scsi0", "scsi31x", "disk[\"scsi31x\"]");
    check("scsi0", "scsi99", "disk[\"scsi99\"]");
    check("network \"net0\" { bridge", "network \"eth0\" { bridge", "network[\"eth0\"]");
    check("memory_mib = 512", "memory_mib = -512", "memory_mib");
    check("cores      = 2", "cores      = 0", "cores");
    check("\"host\"", "\"host,flags=+nonsense\"", "cpu_type");
    check("name       = \"one\"", "name       = \"one two\"", "name");
    check("size_gib = 2", "size_gib = 0", "size_gib");
    let network = "network \"net0\" { address = \"10.77.0.11/24\" }";
    for (other, word) in [
        ("address = \"10.77.0.0/24\"", "address"),
        ("address = \"10.77.0.255/24\"", "address"),
        ("address = \"10.77.0.11/24\"\n gateway = \"10.77.0.11\"", "gateway"),
        ("address = \"slaac\"", "`dhcp`"),
    ] {
        check(network, &format!("network \"net0\" {{\n {other}\n }}"), word);
    }
    let both = |more: &str| {
        let card = |slot: u8| {
            format!(
                "network \"net{slot}\" {{\n address = \"10.77.{slot}.11/24\"\n gateway = \"10.77.{slot}.1\"\n {more}\n }}"
            )
        };
        format!("{}\n{}", card(0), card(1))
    };
    let two_cards = VM.replace("  cloud_init", "  network \"net1\" { bridge = \"vmbr1\" }\n  cloud_init");
    check_of(&two_cards, network, &both(""), "metric");
    check_of(&two_cards, network, &both("metric = 50"), "metric");
    check("  network", "  disk \"ide2\" { storage = \"local-lvm\" }\n  network", "disk[\"ide2\"]");
}

#[test]
fn shrinking_a_disk_is_told_by_the_plan_and_refused_by_the_apply() {
    if !ready() {
        return;
    }
    let lab = Lab::start("shrink", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let configuration = format!("{HEAD}{VM}").replace("cloud_init", "started = false\n  cloud_init");
    terraform.write("main.tf", &configuration);
    terraform.apply();
    terraform.write("main.tf", &configuration.replace("size_gib = 2", "size_gib = 1"));
    terraform.plan().exits(2).says(&["Warning: ", "disk", "size_gib", "shrink"]);
    terraform.fails(&["disk", "size_gib", "shrink"]);
}

/// A machine whose values are wrong, each by itself.
const VALUES: &str = r#"
resource "groundwork_machine" "one" {
  endpoint       = { address = "192.0.2.11:7443", fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
  hostname       = "CP_1"
  host "10.0.0" { names = ["cp-1"] }
  host "10.0.0.1" { names = [] }
  swap           = false
  kernel_modules = ["br_netfilter.ko"]
  sysctls        = { "net.ipv4.ip_forward" = "" }
  repository "junk" {
    url     = "ftp://192.0.2.1/apt"
    key_pem = "mQINBF"
  }
  package "-f" {}
  package "nano" { version = "-o" }
  file "/etc/x/" {
    content = ""
    mode    = "0999"
    owner   = "a b"
  }
  service "ssh.service" { restart_on = ["etc/x"] }
  filesystem "/dev/sdb" { kind = "ext4" }
  filesystem "/dev/disk/by-id/x" {
    kind = "zfs"
    uuid = "X"
  }
  mount "/data/" { source = "/dev/x" }
  mount "/srv" {
    source  = "a b"
    kind    = "a b"
    options = ["ro,noatime"]
  }
  container_runtime {
    package       = "docker"
    version       = "-o"
    sandbox_image = "a b"
    registry "a/b" { mirrors = ["file:///x"] }
  }
  kubernetes {
    version = "1.23.17"
    repository {
      url     = "ftp://x"
      key_pem = "x"
    }
  }
  command "none" {
    argv   = ["true"]
    unless = []
  }
}
"#;

/// A machine whose values are wrong together, each of them good by itself.
const RULES: &str = r#"
resource "groundwork_machine" "one" {
  endpoint = { address = "192.0.2.11:7443", fingerprint = "sha256:0000000000000000000000000000000000000000000000000000000000000000" }
  repository "bare" { url = "file:///srv/apt" }
  repository "suite" {
    url     = "https://192.0.2.1/apt"
    trusted = true
    suites  = ["bookworm"]
  }
  package "vim" {
    absent  = true
    version = "1"
  }
  file "/etc/motd" {}
  service "ssh.service" {
    masked  = true
    running = true
  }
  filesystem "/dev/disk/by-id/x" {
    kind  = "xfs"
    label = "thirteen-long"
  }
  command "both" {
    argv    = ["/bin/true"]
    creates = "/x"
    unless  = ["/bin/true"]
  }
  command "none" { argv = ["/bin/true"] }
}
"#;

/// A machine whose values are not known before the plan; `validate` takes every variable for that.
const LATER: &str = r#"
variable "later" {}
resource "groundwork_machine" "one" {
  endpoint = var.later
  hostname = var.later
  host "10.0.0.1" { names = [var.later] }
  repository "one" {
    url     = var.later
    key_url = var.later
  }
  repository "other" {
    url        = var.later
    trusted    = var.later
    suites     = ["bookworm"]
    components = var.later
  }
  package "vim" {
    absent  = true
    version = var.later
  }
  file "/etc/motd" { content = var.later }
  service "ssh.service" {
    masked  = true
    running = var.later
  }
  filesystem "/dev/disk/by-id/x" {
    kind  = var.later
    label = "thirteen-long"
  }
  command "one" {
    argv   = [var.later]
    unless = var.later
  }
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
        r#"host["10.0.0"]"#,
        r#"host["10.0.0.1"].names"#,
        r#"swap"#,
        r#"kernel_modules[0]"#,
        r#"sysctls["net.ipv4.ip_forward"]"#,
        r#"repository["junk"].url"#,
        r#"repository["junk"].key_pem"#,
        r#"package["-f"]"#,
        r#"package["nano"].version"#,
        r#"file["/etc/x/"]"#,
        r#"file["/etc/x/"].mode"#,
        r#"file["/etc/x/"].owner"#,
        r#"service["ssh.service"].restart_on[0]"#,
        r#"filesystem["/dev/sdb"]"#,
        r#"filesystem["/dev/disk/by-id/x"].kind"#,
        r#"filesystem["/dev/disk/by-id/x"].uuid"#,
        r#"mount["/data/"]"#,
        r#"mount["/srv"].source"#,
        r#"mount["/srv"].kind"#,
        r#"mount["/srv"].options[0]"#,
        r#"container_runtime.package"#,
        r#"container_runtime.version"#,
        r#"container_runtime.sandbox_image"#,
        r#"container_runtime.registry["a/b"]"#,
        r#"container_runtime.registry["a/b"].mirrors[0]"#,
        r#"kubernetes.version"#,
        r#"kubernetes.repository.url"#,
        r#"kubernetes.repository.key_pem"#,
        r#"command["none"].argv"#,
        r#"command["none"].unless"#,
    ];
    check_machine(VALUES, &wrong);
}

#[test]
fn values_of_a_machine_that_do_not_go_together_are_named() {
    if !ready() {
        return;
    }
    let wrong = [
        r#"repository["bare"].key_pem"#,
        r#"repository["suite"].components"#,
        r#"package["vim"].absent"#,
        r#"file["/etc/motd"].content"#,
        r#"service["ssh.service"].masked"#,
        r#"filesystem["/dev/disk/by-id/x"].label"#,
        r#"command["both"]"#,
        r#"command["none"]"#,
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
        ("10.244.0.0/16", "10.244.0.0/25", "Each node takes a /24"),
        ("10.244.0.0/16", "192.0.0.0/16", "192.0.2.11, is within 192.0.0.0/16"),
        ("10.244.0.0/16", "fd00:1::/56", "is of IPv6"),
        ("10.244.0.0/16\"", "10.244.0.0/16\"\n  service_subnet = \"10.96.0.0/11\"", "`service_subnet`"),
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
