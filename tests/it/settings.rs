//! The settings of a machine as its user finds them: what runs and what will run, not only what is on the disk.

use crate::harness::{Backend, Lab, Terraform, ready};

const MACHINE: &str = r#"
terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
provider "groundwork" {
  agent { pki_dir = "./pki" }
}
resource "groundwork_image" "one" {
  node      = "pve1"
  storage   = "local"
  file_name = "one.qcow2"
  url       = "URL"
  checksum  = "sha256:SUM"
}
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  agent {}
  cloud_init {
    network "net0" {
      address = "NET.70/24"
      gateway = "NET.1"
    }
  }
  timeouts { create = "3m" }
}
resource "groundwork_machine" "one" {
  endpoint = groundwork_vm.one.endpoint
SETTINGS
}
"#;

/// A service that only runs, and shows its environment.
const DEMO: &str = r#"
  file "/etc/systemd/system/demo.service" {
    content = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
  }
  service "demo" {
    enabled = true
    running = true
  }
"#;

struct Machine {
    lab: Lab,
    terraform: Terraform,
}

impl Machine {
    fn declare(&self, settings: &str) {
        let (lab, net) = (&self.lab, self.lab.address(0));
        let text = MACHINE.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
        self.terraform.write("main.tf", &text.replace("NET", net.trim_end_matches(".0")).replace("SETTINGS", settings));
    }

    fn must(&self, line: &str) -> String {
        self.lab.must("one", line)
    }
}

#[test]
fn what_is_declared_is_in_force() {
    if !ready() {
        return;
    }
    let lab = Lab::start("settings", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let machine = Machine { lab, terraform };
    machine.declare("");
    machine.terraform.apply();

    commands_are_taken_word_for_word(&machine);
    a_name_is_no_pattern(&machine);
    a_drop_in_reaches_what_runs(&machine);
    a_proxy_reaches_what_runs(&machine);
    a_broken_source_is_absent_before_packages(&machine);
    others_do_not_speak_last(&machine);
    machine.terraform.destroy();
}

/// The machine's systemd is older than 254, which puts variables into the arguments of every unit.
fn commands_are_taken_word_for_word(machine: &Machine) {
    let script = r#"printf '%s\\n' \"$1\" \"$2\" \"$3\" > /root/words"#;
    let words = r#""$HOME", "$${HOME}", "a$$b 100%""#;
    machine.declare(&format!(
        "  command \"words\" {{\n    argv = [\"/bin/sh\", \"-c\", \"{script}\", \"sh\", {words}]\n    creates = \"/root/words\"\n  }}"
    ));
    machine.terraform.apply();
    // HCL's own: `$${` is `${`.
    assert_eq!(machine.must("cat /root/words"), "$HOME\n${HOME}\na$$b 100%");
    machine.terraform.has_no_changes();
}

fn a_name_is_no_pattern(machine: &Machine) {
    machine.declare("  package \"cu.l\" {}");
    machine.terraform.fails(&["Unable to locate package cu.l"]);
    assert_eq!(
        machine.must("dpkg-query -W curl 2>&1 | grep -c 'no packages'"),
        "1",
        "what the name matches is not installed"
    );
    machine.declare("  package \"gzip-\" {}");
    machine.terraform.fails(&["the name of a package, without `-` at its end"]);
    machine.declare("  container_runtime {\n    registry \"..\" { mirrors = [\"http://m\"] }\n  }");
    machine.terraform.fails(&["the host of a registry"]);
}

fn a_drop_in_reaches_what_runs(machine: &Machine) {
    let path = "/etc/systemd/system/demo.service.d/env.conf";
    let environment = "tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value demo)/environ";
    let with = |value: &str| {
        format!("{DEMO}  file \"{path}\" {{\n    content = \"[Service]\\nEnvironment=LEVEL={value}\\n\"\n  }}")
    };
    machine.declare(DEMO);
    machine.terraform.apply();
    machine.declare(&with("1"));
    machine.terraform.apply();
    assert!(machine.must(environment).lines().any(|line| line == "LEVEL=1"));
    machine.terraform.has_no_changes();

    // Changed by hand, read and put back by hand: the disk is as declared, and the process is not.
    machine.must(&format!("sed -i s/1/2/ {path} && systemctl daemon-reload && systemctl restart demo"));
    machine.must(&format!("sed -i s/2/1/ {path}"));
    machine.terraform.plan().exits(2).says(&["units: demo.service: systemd has not read", "demo.service runs without"]);
    machine.must(&format!("touch -d '1 hour ago' {path} && systemctl daemon-reload"));
    machine.terraform.plan().exits(2).says(&["demo.service runs without its declared environment"]);
    machine.terraform.apply();
    assert!(machine.must(environment).lines().any(|line| line == "LEVEL=1"));
    machine.terraform.has_no_changes();

    // No longer declared, it is no longer in force.
    machine.declare(DEMO);
    machine.terraform.apply();
    assert!(!machine.must(environment).contains("LEVEL"));
    machine.terraform.has_no_changes();
}

fn a_proxy_reaches_what_runs(machine: &Machine) {
    // Anything that is called containerd.
    machine.must(
        "printf '[Service]\\nExecStart=/bin/sleep infinity\\n' > /etc/systemd/system/containerd.service; \
         systemctl daemon-reload; systemctl start containerd",
    );
    let gateway = "http://169.254.77.1:3128";
    machine
        .declare(&format!("  proxy {{\n    http = \"{gateway}\"\n    no_proxy = [\".lan\", \"169.254.77.1\"]\n  }}"));
    machine.terraform.apply();
    machine.terraform.has_no_changes();
    let environment = machine.must("tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value containerd)/environ");
    let none = environment.lines().find(|line| line.starts_with("NO_PROXY=")).unwrap_or_default();
    assert!(environment.lines().any(|line| line == format!("HTTP_PROXY={gateway}")), "{environment}");
    let own = format!("{}/24", machine.lab.address(0));
    for part in [".lan", "169.254.77.1", ".svc", &own] {
        assert!(none.split([',', '=']).any(|entry| entry == part), "{part} in {none}");
    }
    let apt = machine.must("apt-config dump Acquire::http::Proxy");
    assert!(apt.contains(gateway) && apt.contains("Proxy::169.254.77.1 \"DIRECT\""), "{apt}");
    // The lab's packages are fetched past it: nobody listens there.
    machine.must("apt-get update");

    machine.declare("");
    machine.terraform.apply();
    let environment = machine.must("tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value containerd)/environ");
    assert!(!environment.contains("PROXY"), "{environment}");
    assert_eq!(
        machine.must("ls /etc/systemd/system/containerd.service.d /etc/apt/apt.conf.d | grep -c groundwork || true"),
        "0"
    );
    machine.terraform.has_no_changes();
    machine.must("systemctl stop containerd; rm /etc/systemd/system/containerd.service; systemctl daemon-reload");
}

fn a_broken_source_is_absent_before_packages(machine: &Machine) {
    let disc = "deb cdrom:[Debian GNU/Linux 12.5.0 _Bookworm_ - Official amd64 NETINST]/ bookworm main";
    machine.must(&format!("echo '{disc}' > /etc/apt/sources.list"));
    machine.declare("  package \"ipset\" {}");
    machine.terraform.fails(&["E: "]);
    machine.declare("  package \"ipset\" {}\n  repository \"disc\" {\n    url = \"cdrom:\"\n    absent = true\n  }");
    machine.terraform.apply();
    machine.terraform.has_no_changes();
    assert_eq!(machine.must("dpkg-query -Wf '${Status}' ipset"), "install ok installed");
    machine.declare("  package \"ipset\" { absent = true }");
    machine.terraform.apply();
    assert_eq!(machine.must("cat /etc/apt/sources.list"), disc, "what stood there comes back");
    machine.must("rm /etc/apt/sources.list");
}

fn others_do_not_speak_last(machine: &Machine) {
    machine.declare("  sysctls = { \"net.ipv4.ip_forward\" = \"1\" }\n  kernel_modules = [\"br_netfilter\"]");
    machine.terraform.apply();
    machine.terraform.has_no_changes();
    machine.must(
        "printf 'net.ipv4.conf.*.forwarding = 0\\n' > /etc/sysctl.d/99-zzz.conf; echo net.ipv4.ip_forward=0 > /etc/sysctl.conf; \
         echo blacklist br-netfilter > /etc/modprobe.d/hard.conf",
    );
    machine.terraform.plan().exits(2).says(&[
        "/etc/sysctl.d/99-zzz.conf sets something else after our file",
        "/etc/sysctl.conf sets something else after our file",
        "/etc/modprobe.d/hard.conf keeps br_netfilter from being loaded",
    ]);
    machine.terraform.apply();
    machine.terraform.has_no_changes();
    assert_eq!(machine.must("sysctl --system > /dev/null 2>&1; cat /proc/sys/net/ipv4/ip_forward"), "1");
    machine.declare("");
    machine.terraform.apply();
    let came_back = machine.must("cat /etc/modprobe.d/hard.conf /etc/sysctl.conf");
    assert_eq!(came_back, "blacklist br-netfilter\nnet.ipv4.ip_forward=0");
}
