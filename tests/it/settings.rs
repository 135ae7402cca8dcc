//! The settings of a machine as its user finds them: what runs and what will run, not only what is on the disk.

use crate::harness::{Backend, Lab, Terraform, ready, scene, wait_until};

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
        self.terraform.configure(&scene::one(&self.lab, 70, settings));
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

    a_seed_leaves_nothing_behind(&machine);
    commands_are_taken_word_for_word(&machine);
    a_name_is_no_pattern(&machine);
    a_drop_in_reaches_what_runs(&machine);
    a_proxy_reaches_what_runs(&machine);
    a_broken_source_is_absent_before_packages(&machine);
    others_do_not_speak_last(&machine);
    a_key_of_another_system_verifies(&machine);
    what_others_wrote_for_containerd_is_named(&machine);
    machine.terraform.destroy();
}

/// Its drive joins the boot order by itself, from which Proxmox VE unplugs nothing.
fn a_seed_leaves_nothing_behind(machine: &Machine) {
    let tasks = machine.lab.admin("GET", "/nodes/pve1/tasks", &["source=all", "limit=50"]);
    let failed = tasks.as_array().expect("tasks").iter().find(|task| task["status"] != "OK");
    assert_eq!(failed, None, "{tasks}");
    assert_eq!(machine.terraform.resource("groundwork_vm.one")["waiting"], serde_json::json!([]));
    assert!(!machine.lab.config("pve1", 100).to_string().contains("scsi30"), "neither the drive nor its place");
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
    let with = |value: &str| {
        format!("{DEMO}  file \"{path}\" {{\n    content = \"[Service]\\nEnvironment=LEVEL={value}\\n\"\n  }}")
    };
    machine.declare(DEMO);
    machine.terraform.apply();
    machine.declare(&with("1"));
    machine.terraform.apply();
    let level = |wanted: Option<&str>| {
        let has = process_environment(machine, "demo");
        assert_eq!(has.lines().find_map(|line| line.strip_prefix("LEVEL=")), wanted, "{has}");
    };
    level(Some("1"));
    machine.terraform.has_no_changes();

    // Changed by hand, read and put back by hand: the disk is as declared, and the process is not.
    machine.must(&format!("sed -i s/1/2/ {path} && systemctl daemon-reload && systemctl restart demo"));
    machine.must(&format!("sed -i s/2/1/ {path}"));
    machine.terraform.plan().exits(2).says(&["units: demo.service: systemd has not read", "demo.service runs without"]);
    machine.must(&format!("touch -d '1 hour ago' {path} && systemctl daemon-reload"));
    machine.terraform.plan().exits(2).says(&["demo.service runs without its declared environment"]);
    machine.terraform.apply();
    level(Some("1"));
    machine.terraform.has_no_changes();

    // No longer declared, it is no longer in force.
    machine.declare(DEMO);
    machine.terraform.apply();
    level(None);
    machine.terraform.has_no_changes();
}

/// Of a service's program: systemd forks and says that it runs, and executes it a moment later.
fn process_environment(machine: &Machine, service: &str) -> String {
    let line = format!("tr '\\0' '\\n' < /proc/$(systemctl show -p MainPID --value {service})/environ");
    wait_until("the program runs", || machine.must(&line).contains("INVOCATION_ID="));
    machine.must(&line)
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
    let environment = process_environment(machine, "containerd");
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
    let environment = process_environment(machine, "containerd");
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

/// As Windows' editors save it: with a byte order mark, and CR at the ends of lines.
fn a_key_of_another_system_verifies(machine: &Machine) {
    let (lab, url) = (&machine.lab, machine.lab.value("LAB_KUBERNETES_URL"));
    let key = format!("\u{feff}{}", lab.value("LAB_KUBERNETES_KEY").trim().replace('\n', "\r\n"));
    machine.terraform.write("key.asc", &key);
    let repository =
        format!("  repository \"kubernetes\" {{\n    url = \"{url}\"\n    key_pem = file(\"key.asc\")\n  }}");
    machine.declare(&format!("{repository}\n  package \"kubectl\" {{}}"));
    machine.terraform.apply();
    machine.terraform.has_no_changes();
    machine.must("kubectl version --client");
    machine.declare("  package \"kubectl\" { absent = true }");
    machine.terraform.apply();
}

fn what_others_wrote_for_containerd_is_named(machine: &Machine) {
    let config = "/etc/containerd/config.toml";
    let theirs = "version = 2\\n[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia]\\nruntime_type = \"io.containerd.runc.v2\"\\n";
    let lost = "config.toml was written by somebody else: loses plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.nvidia.runtime_type";
    machine.must(&format!("mkdir -p /etc/containerd && printf '{theirs}' >{config}"));
    let declared = "  container_runtime {}";
    machine.declare(declared);
    machine.terraform.apply().says(&["A note about machine", lost, "what others need are `runtime`"]);
    machine.terraform.has_no_changes();

    // On a machine at work the plan says it before, and that containerd restarts.
    machine.must(&format!("printf '[debug]\\nlevel = \"debug\"\\n' >>{config}"));
    machine.terraform.plan().exits(2).says(&[
        "config.toml loses debug.level = ",
        "containerd.service is older than /etc/containerd/config.toml and is restarted",
    ]);
    machine.terraform.apply();
    machine.terraform.has_no_changes();
    machine.declare("");
    machine.terraform.apply();
    assert_eq!(
        machine.must(&format!("cat {config}")),
        theirs.replace("\\n", "\n").trim(),
        "what stood there comes back"
    );
}
