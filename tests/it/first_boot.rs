//! The first boot: whatever cloud-init takes is run, the user's word is the last one, and what went wrong is said.

use crate::harness::{Backend, Lab, Terraform, ready, wait_until};

const HEAD: &str = r##"
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
locals {
  user_data = {
    mime    = file("./mime.txt")
    archive = file("./archive.txt")
    jinja   = file("./jinja.txt")
    ignored = "#cloud-config\nruncmd: [unclosed\n"
  }
  address = { mime = 61, archive = 62, jinja = 63, ignored = 64, failed = 65 }
}
resource "groundwork_vm" "fine" {
  for_each   = local.user_data
  node       = "pve1"
  name       = "${each.key}-vm"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  agent {}
  cloud_init {
    user      = "admin"
    password  = "$ecret-pässwörd"
    user_data = each.value
    network "net0" {
      address  = "NET.${local.address[each.key]}/${each.key == "mime" ? 24 : 32}"
      gateway  = each.key == "mime" ? null : "NET.254"
      address6 = "fd00:77::${local.address[each.key]}/128"
      gateway6 = each.key == "jinja" ? "fe80::1" : "fd00:77::1"
    }
  }
  timeouts { create = "3m" }
}
"##;

const FAILED: &str = r##"
resource "groundwork_vm" "failed" {
  node       = "pve1"
  name       = "failed"
  image      = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 4
  }
  network "net0" { bridge = "vmbr0" }
  agent {}
  cloud_init {
    user_data = "#cloud-config\nCONFIG\n"
    network "net0" {
      address = "NET.65/24"
      gateway = "NET.1"
    }
  }
  timeouts { create = "3m" }
}
"##;

const PACKAGE: &str = r#"
resource "groundwork_machine" "failed" {
  endpoint = groundwork_vm.failed.endpoint
  package "ipset" {}
}
"#;

/// The locks are those of fcntl(2), which flock(1) does not take.
const HOLD: &str = "write_files: [{path: /root/hold.py, content: 'import fcntl, sys, time; lock = open(sys.argv[1], chr(119)); \
    fcntl.lockf(lock, fcntl.LOCK_EX); time.sleep(3600)'}]";

/// One part of every kind, one of them with a document of its own, one compressed.
const MIME: &str = r#"Content-Type: multipart/mixed; boundary="MIMEBOUNDARY"
MIME-Version: 1.0

--MIMEBOUNDARY
Content-Disposition: attachment; filename="config.yaml"
Content-Transfer-Encoding: 7bit
Content-Type: text/cloud-config

#cloud-config
fqdn: other.example.org
manage_etc_hosts: false
users: [default, { name: bob, plain_text_passwd: x }]
runcmd:
- echo "grüße" > /root/config
--MIMEBOUNDARY
Content-Type: text/x-shellscript

#!/bin/sh
echo "straße" > /root/script
--MIMEBOUNDARY
Content-Type: text/cloud-boothook

#cloud-boothook
#!/bin/sh
echo boothook > /root/boothook
--MIMEBOUNDARY
Content-Type: text/part-handler

#part-handler
def list_types():
    return ["text/x-own"]
def handle_part(data, ctype, filename, payload):
    if ctype == "text/x-own":
        open("/root/own", "w").write(payload)
--MIMEBOUNDARY
Content-Type: text/x-own

handled
--MIMEBOUNDARY
Content-Type: text/x-include-url

#include
http://NET.1/files/included.txt
--MIMEBOUNDARY
Content-Type: text/cloud-config-jsonp

#cloud-config-jsonp
[{"op": "add", "path": "/write_files", "value": [{"path": "/root/patched", "content": "patched\n"}]}]
--MIMEBOUNDARY
Content-Type: application/gzip
Content-Transfer-Encoding: base64

H4sIAAAAAAACA1NW1E/KzNMvzuBKTc7IV0jOzy0oSi0uTk1RsFPQL8rPL9FHCHEBAK+u02otAAAA
--MIMEBOUNDARY--
"#;

const ARCHIVE: &str = "#cloud-config-archive\n- type: text/x-shellscript\n  content: |\n    #!/bin/sh\n    echo \"übung\" > /root/script\n\
    - |\n  #cloud-config\n  hostname: archived\n  package_update: true\n  package_upgrade: true\n  \
    apt: { preserve_sources_list: true }\n  bootcmd: ['rm -rf /etc/apt/sources.list*']\n  runcmd: [[sh, -c, 'echo 1 > /root/config']]\n";

const JINJA: &str = "## template: jinja\n#cloud-config\nruncmd:\n- echo {{ v1.local_hostname }} ä > /root/config\n";

#[test]
fn every_kind_of_user_data_is_run_and_what_goes_wrong_is_said() {
    if !ready() {
        return;
    }
    let lab = Lab::start("first-boot", Backend::Nspawn, &["--keep-uploads"]);
    let terraform = Terraform::for_lab(&lab);
    let net = lab.address(0);
    let net = net.trim_end_matches(".0");
    lab.serve("included.txt", "#!/bin/sh\necho included > /root/included\n");
    let filled = |text: &str| {
        text.replace("URL", &lab.value("LAB_IMAGE_URL"))
            .replace("SUM", &lab.value("LAB_IMAGE_SHA256"))
            .replace("NET", net)
    };
    terraform.write("mime.txt", &filled(MIME));
    terraform.write("archive.txt", ARCHIVE);
    terraform.write("jinja.txt", JINJA);
    terraform.write("main.tf", &filled(HEAD));

    let applied = terraform.apply();
    applied.says(&[
        "Warning: The first boot of VM",
        "was not clean",
        "merging in cloud config part",
        "Correct `user_data`",
    ]);
    assert_eq!(applied.flat().matches("was not clean").count(), 1, "only one left something out:\n{}", applied.text);
    terraform.has_no_changes();
    everything_was_run(&lab);
    gateways_outside_are_reached(&lab, net);
    other_renderers_know_the_way_too(&lab, net);
    a_seed_that_is_not_meant_changes_nothing(&lab, net);

    terraform.write("failed.tf", &filled(FAILED).replace("CONFIG", "bootcmd:\\nruncmd: [exit 3]"));
    let parts = [
        "Cannot create VM failed",
        "Its first boot failed",
        "bootcmd: ",
        "(runcmd)",
        "recorded in the state as tainted",
    ];
    terraform.fails(&parts);
    assert_eq!(lab.must("failed", "systemctl is-active groundwork-agent"), "active");
    let busy = format!("{HOLD}\\nruncmd: [{}, {}]", holder("lists"), holder("archives"));
    terraform.write("failed.tf", &format!("{}{PACKAGE}", filled(FAILED).replace("CONFIG", &busy)));
    another_package_manager_is_waited_for(&lab, &terraform);
    terraform.destroy();
}

/// Starts somebody who has one of the locks that apt does not wait for.
fn holder(lock: &str) -> String {
    let folder = if lock == "lists" { "/var/lib/apt/lists" } else { "/var/cache/apt/archives" };
    format!("[systemd-run, --unit={lock}, python3, /root/hold.py, {folder}/lock]")
}

/// As apt's own timers have them at a first boot: each lock stops one of the agent's programs, and none of its changes.
fn another_package_manager_is_waited_for(lab: &Lab, terraform: &Terraform) {
    let mut apply = terraform.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "busy.log");
    for (lock, unit) in [("lists", "apt-update"), ("archives", "apt-install")] {
        let ended = format!("journalctl -u groundwork-op-{unit} | grep 'status=100'");
        wait_until("the lock has stopped apt", || lab.exec("failed", &ended).code == 0);
        lab.must("failed", &format!("systemctl stop {lock}"));
    }
    assert!(apply.wait().expect("terraform ends").success(), "{}", read(terraform, "busy.log"));
    assert_eq!(lab.must("failed", "dpkg-query -Wf '${Status}' ipset"), "install ok installed");
    terraform.has_no_changes();
}

fn read(terraform: &Terraform, name: &str) -> String {
    std::fs::read_to_string(terraform.path(name)).unwrap_or_default()
}

fn everything_was_run(lab: &Lab) {
    let files = lab.must("mime-vm", "cd /root; cat config script boothook included patched compressed own");
    assert_eq!(files, "grüße\nstraße\nboothook\nincluded\npatched\ncompressed\nhandled");
    let words = lab.must("mime-vm", "hostname; id -un bob; id -un admin; grep -c other /etc/hosts || true");
    assert_eq!(words, "other\nbob\nadmin\n0", "its fqdn, both accounts, and its hosts");
    assert_eq!(lab.must("archive-vm", "cat /root/config /root/script; hostname"), "1\nübung\narchived");
    let packages = "grep -oE \"'apt-get'.* '(update|dist-upgrade)'\" /var/log/cloud-init.log | grep -oE 'update|dist-upgrade' | sort -u";
    assert_eq!(lab.must("archive-vm", packages), "dist-upgrade\nupdate", "it asked for both");
    assert_eq!(lab.must("jinja-vm", &format!("{packages} || true")), "", "and nobody else did");
    assert_eq!(lab.must("jinja-vm", "cat /root/config; hostname"), "jinja-vm ä\njinja-vm");
    let check =
        "import crypt, spwd; h = spwd.getspnam('admin').sp_pwdp; print(h[:3], crypt.crypt('$ecret-pässwörd', h) == h)";
    for vm in ["mime-vm", "jinja-vm", "ignored-vm"] {
        assert_eq!(
            lab.must(vm, &format!("PYTHONIOENCODING=utf8 python3 -W ignore -c \"{}\"", check.replace('$', "\\$"))),
            "$6$ True",
            "{vm}"
        );
    }
}

fn gateways_outside_are_reached(lab: &Lab, net: &str) {
    for (vm, gateway6) in [("archive-vm", "fd00:77::1"), ("jinja-vm", "fe80::1")] {
        let routes = lab.must(vm, "ip -4 route show default; ip -6 route show default");
        assert!(routes.contains(&format!("default via {net}.254 dev")), "{vm}: {routes}");
        assert!(routes.contains(&format!("default via {gateway6} dev")), "{vm}: {routes}");
        lab.must(vm, "networkctl --no-legend list | grep -q configured");
    }
}

/// A copied disk or a snapshot may bring back the seed of another machine, or one that was used up.
fn a_seed_that_is_not_meant_changes_nothing(lab: &Lab, net: &str) {
    let scripts = lab.control("uploads", &["install.sh"]).text;
    let uuid = |vm: &str| lab.must(vm, "tr A-F a-f </sys/class/dmi/id/product_uuid");
    let installs = |of: &str| {
        let script = scripts.split("#!/bin/sh\n").find(|script| script.contains(of)).expect("the machine's script");
        lab.serve("install.sh", script);
        let fetch =
            format!("import urllib.request as u; u.urlretrieve('http://{net}.1/files/install.sh', '/root/install.sh')");
        lab.must("mime-vm", &format!("rm -f /var/lib/groundwork/seed-id; python3 -c \"{fetch}\""));
        lab.exec("mime-vm", "sh /root/install.sh")
    };
    let sums = "sha256sum /usr/local/bin/groundwork-agent /etc/groundwork/* /etc/systemd/system/groundwork-agent.service; ls -I seed-id /var/lib/groundwork";
    let before = lab.must("mime-vm", sums);
    let (own, other) = (uuid("mime-vm"), uuid("jinja-vm"));
    installs(&other).exits(1).says(&[&format!("made for the machine {other}, and this is {own}: nothing was changed")]);
    installs(&own).exits(0).says(&["a seed of generation 1 was here, and this is one of 1: nothing was changed"]);
    assert_eq!(lab.must("mime-vm", sums), before);
}

/// By a machine of the same cloud-init that reaches the lab, for images with netplan and with ifupdown.
fn other_renderers_know_the_way_too(lab: &Lab, net: &str) {
    let configs = lab.control("uploads", &["network-config"]).text;
    let config = configs.lines().find(|line| line.contains(&format!("{net}.62/32"))).expect("the seed of archive-vm");
    lab.serve("network.json", config);
    let convert = |kind: &str| {
        let line = format!(
            "cd /tmp && python3 -c \"import urllib.request as u; open('n', 'wb').write(u.urlopen('http://{net}.1/files/network.json').read())\" \
             && cloud-init devel net-convert -p n -k yaml -d out -D debian -O {kind} >/dev/null 2>&1 && cat out/etc/net*/*cloud-init* out/etc/network/*/* 2>/dev/null; rm -r out"
        );
        lab.must("mime-vm", &line)
    };
    let netplan = convert("netplan");
    assert!(netplan.contains("on-link: true") && netplan.contains(&format!("via: {net}.254")), "{netplan}");
    let eni = convert("eni");
    assert!(eni.contains(&format!("route add -host {net}.254/32 gw 0.0.0.0")), "{eni}");
    assert!(eni.contains(&format!("route add default gw {net}.254")), "{eni}");
}
