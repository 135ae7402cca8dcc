//! One lab per test: a Proxmox VE API with real machines behind it, on loopback and namespaces of its own.

use super::control::Control;
use super::repository;
use super::run::{Said, command, run};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a started VM becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A virtual machine with its own kernel.
    Qemu,
    /// A systemd container: boots in two seconds.
    Nspawn,
    /// Nothing: the API alone.
    None,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Nspawn => "nspawn",
            Self::None => "none",
        }
    }
}

/// A running lab; stops when dropped.
pub(crate) struct Lab {
    name: String,
    folder: tempfile::TempDir,
    facts: Value,
}

impl Lab {
    /// Starts a lab named after the test, with further arguments for `scripts/lab.sh start`.
    #[track_caller]
    pub(crate) fn start(name: &str, backend: Backend, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the lab");
        let said = run(command(script())
            .args(["start", "--backend", backend.name(), "--name", name, "--dir"])
            .arg(folder.path())
            .args(arguments));
        assert_eq!(said.code, 0, "the lab does not start:\n{}", said.text);
        let facts = std::fs::read(folder.path().join("lab.json")).expect("lab.json");
        let facts = serde_json::from_slice(&facts).expect("lab.json is JSON");
        Self { name: name.to_owned(), folder, facts }
    }

    /// The variables a user of this lab sets: the provider's credentials and what the examples need.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let environment = self.facts["env"].as_object().expect("lab.json: env");
        environment.iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }

    /// One value of `lab.env`.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> String {
        let value = &self.facts["env"][name];
        assert!(!value.is_null(), "lab.json: no {name} in {}", self.facts);
        text(value)
    }

    /// A file that the lab wrote into its folder for its users.
    #[track_caller]
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name))
            .unwrap_or_else(|error| panic!("{name} of the lab: {error}"))
    }

    /// Host number `last` in the lab's network.
    pub(crate) fn address(&self, last: u8) -> String {
        let subnet = self.value("LAB_SUBNET");
        let (network, _) = subnet.rsplit_once('.').expect("a.b.c.0/24");
        format!("{network}.{last}")
    }

    /// Puts a file where machines fetch it: `http://GATEWAY/files/NAME`.
    #[track_caller]
    pub(crate) fn serve(&self, name: &str, content: impl AsRef<[u8]>) {
        let folder = self.folder.path().join("files");
        std::fs::create_dir_all(&folder).expect("the lab's folder of files");
        std::fs::File::create(folder.join(name))
            .and_then(|mut file| file.write_all(content.as_ref()))
            .expect("a served file");
    }

    /// Runs a shell line in the machine called `vm`; its exit code and output.
    #[track_caller]
    pub(crate) fn exec(&self, vm: &str, line: &str) -> Said {
        let asked = json!({ "vm": vm, "argv": ["/bin/sh", "-c", line] });
        let ran = self.asked("exec", &asked).map(|answer| {
            let text = ["out", "err"].map(|stream| decoded(&answer[stream])).concat();
            let code = answer["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
            Said { code, text: String::from_utf8_lossy(&text).into_owned() }
        });
        ran.unwrap_or_else(|text| Said { code: 1, text })
    }

    /// Runs a shell line that must succeed; its output, trimmed.
    #[track_caller]
    pub(crate) fn must(&self, vm: &str, line: &str) -> String {
        let said = self.exec(vm, line);
        assert_eq!(said.code, 0, "{vm}: {line}\n{}", said.text);
        said.text.trim().to_owned()
    }

    /// Kills a machine's agent; back when the next one answers. Without that wait a plan meets nothing there, and says so instead of a
    /// difference.
    #[track_caller]
    pub(crate) fn kill_agent(&self, vm: &str) {
        self.must(vm, "systemctl kill --signal=KILL groundwork-agent && systemctl restart groundwork-agent");
    }

    /// Any other word of `scripts/lab.sh`: `fault …`, `power …`, `requests`, `list`.
    #[track_caller]
    pub(crate) fn control(&self, word: &str, arguments: &[&str]) -> Said {
        let asked = match (word, arguments) {
            ("fault", words) => json!({ "words": words }),
            ("power", [vm, state]) => json!({ "vm": vm, "state": state }),
            _ => return run(command(script()).args([word, "--dir"]).arg(self.folder.path()).args(arguments)),
        };
        match self.asked(word, &asked) {
            Ok(_) => Said { code: 0, text: String::new() },
            Err(text) => Said { code: 1, text },
        }
    }

    /// What `scripts/lab.sh` would ask, without starting it: tests ask by the hundred, and what waits asks every second.
    fn asked(&self, verb: &str, values: &Value) -> Result<Value, String> {
        Control::at(&self.folder.path().join("control.sock")).ask(verb, values)
    }

    /// An administrator's call, behind Terraform's back; its data when the task it began has ended.
    #[track_caller]
    pub(crate) fn admin(&self, method: &str, path: &str, values: &[&str]) -> Value {
        let pairs = values.iter().map(|pair| pair.split_once('=').expect("KEY=VALUE"));
        let values: serde_json::Map<_, _> = pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect();
        let asked = json!({ "method": method, "path": path, "values": values });
        let answer = self.asked("api", &asked).unwrap_or_else(|why| panic!("{method} {path}\n{why}"));
        answer["data"].clone()
    }

    /// Takes a VM away (`NODE/VMID`) as an administrator does it, or a host that burns.
    #[track_caller]
    pub(crate) fn burn(&self, id: &str) {
        let path = format!("/nodes/{}", id.replace('/', "/qemu/"));
        self.admin("POST", &format!("{path}/status/stop"), &[]);
        self.admin("DELETE", &path, &[]);
    }

    /// Configuration of a VM.
    #[track_caller]
    pub(crate) fn config(&self, node: &str, vmid: u64) -> Value {
        self.admin("GET", &format!("/nodes/{node}/qemu/{vmid}/config"), &[])
    }

    /// How tasks of a kind on pve1 have ended, in no order; null for one that runs.
    #[track_caller]
    pub(crate) fn tasks(&self, kind: &str) -> Vec<Value> {
        let all = self.admin("GET", "/nodes/pve1/tasks", &["source=all", "limit=50"]);
        let rows = all.as_array().expect("tasks").iter().filter(|task| task["type"] == kind);
        rows.map(|task| task["status"].clone()).collect()
    }

    /// What the lab holds now (`scripts/lab.sh list`): VMs, volumes, files.
    #[track_caller]
    pub(crate) fn inventory(&self) -> Value {
        self.asked("list", &json!({})).unwrap_or_else(|why| panic!("lab list: {why}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            keep_logs(&self.name, self.folder.path());
        }
        let said = run(command(script()).args(["stop", "--dir"]).arg(self.folder.path()));
        if said.code != 0 && !std::thread::panicking() {
            panic!("the lab left something behind:\n{}", said.text);
        }
    }
}

/// A failed test's lab log is the first thing its reader wants.
fn keep_logs(name: &str, folder: &Path) {
    let log = std::fs::read_to_string(folder.join("lab.log")).unwrap_or_default();
    let tail: Vec<_> = log.lines().rev().take(60).collect();
    eprintln!("--- last lines of the log of lab {name}");
    for line in tail.iter().rev() {
        eprintln!("{line}");
    }
}

fn decoded(stream: &Value) -> Vec<u8> {
    BASE64.decode(stream.as_str().unwrap_or_default()).expect("the lab answers output in base64")
}

fn script() -> PathBuf {
    repository().join("scripts/lab.sh")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
