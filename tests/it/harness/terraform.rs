//! A Terraform working folder with our provider, as a user has it.

use super::run::{Said, command, run};
use super::{Lab, provider_binary, repository, wait_until};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The provider as a user names it; where Proxmox VE is, the environment says.
const HEAD: &str = r#"terraform {
  required_providers {
    groundwork = { source = "groundwork-tf/groundwork" }
  }
}
provider "groundwork" {
  agent { pki_dir = "./pki" }
}
"#;

/// A working folder; gone when dropped.
pub(crate) struct Terraform {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Terraform {
    /// An empty working folder whose commands see `environment`.
    #[track_caller]
    pub(crate) fn new(environment: Vec<(String, String)>) -> Self {
        let folder = tempfile::tempdir().expect("a working folder");
        let binary = provider_binary();
        let overrides = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"groundwork-tf/groundwork\" = \"{}\"\n  }}\n  direct {{}}\n}}\n",
            binary.parent().expect("folder of the provider").display()
        );
        let this = Self { folder, environment };
        this.write("terraform.rc", &overrides);
        this
    }

    /// A working folder for `lab`, with an agents' CA of its own.
    #[track_caller]
    pub(crate) fn for_lab(lab: &Lab) -> Self {
        Self::with_environment(lab.environment())
    }

    /// The same with another environment than the lab's own.
    #[track_caller]
    pub(crate) fn with_environment(environment: Vec<(String, String)>) -> Self {
        let this = Self::new(environment);
        run(command(provider_binary()).args(["pki", "init"]).arg(this.path("pki"))).exits(0);
        this
    }

    /// A path in the working folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file of the configuration.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "a scratch file of a test needs no atomicity")]
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write into the working folder");
    }

    /// Writes `main.tf`: these resources, below the provider that all tests have.
    #[track_caller]
    pub(crate) fn configure(&self, resources: &str) {
        self.write("main.tf", &format!("{HEAD}{resources}"));
    }

    /// Copies the configuration of `examples/NAME`.
    #[track_caller]
    pub(crate) fn example(&self, name: &str) {
        copy_configuration(&repository().join("examples").join(name), self.folder.path());
    }

    /// Values for the example's variables, written as `terraform.tfvars.json`.
    #[track_caller]
    pub(crate) fn variables(&self, values: &Value) {
        self.write("terraform.tfvars.json", &values.to_string());
    }

    /// `terraform ARGS`, prepared but not started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command("terraform");
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .env("TF_CLI_CONFIG_FILE", self.path("terraform.rc"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs `terraform ARGS` to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    /// Starts `terraform ARGS`, its output in `NAME.log` of the working folder.
    #[track_caller]
    pub(crate) fn spawn(&self, arguments: &[&str], log: &str) -> Child {
        let log = std::fs::File::create(self.path(log)).expect("log file");
        let errors = log.try_clone().expect("log file twice");
        // A group of its own, as a shell gives a command: Ctrl-C reaches the provider too.
        self.command(arguments).process_group(0).stdout(log).stderr(errors).spawn().expect("terraform starts")
    }

    /// Starts an apply, presses Ctrl-C when it is `time`, and waits for its end: a few seconds at most.
    #[track_caller]
    pub(crate) fn interrupted(&self, time: impl FnMut() -> bool) -> Said {
        let mut apply = self.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "interrupted.log");
        wait_until("it is time to interrupt", time);
        let began = Instant::now();
        killpg(process(&apply), Signal::SIGINT).expect("terraform runs");
        let status = apply.wait().expect("terraform ends");
        let text = std::fs::read_to_string(self.path("interrupted.log")).expect("log");
        assert!(began.elapsed() < Duration::from_secs(8), "ended after {:?}:\n{text}", began.elapsed());
        Said { code: status.code().unwrap_or(-1), text }
    }

    /// Starts an apply and kills its provider, without a word, when it is `time`.
    #[track_caller]
    pub(crate) fn killed(&self, mut time: impl FnMut() -> bool) {
        let mut apply = self.spawn(&["apply", "-auto-approve", "-input=false", "-no-color"], "killed.log");
        let runs = |apply: &Child| !children_named(apply.id(), "terraform-provi").is_empty();
        wait_until("it is time to kill", || time() && runs(&apply));
        assert_ne!(kill_provider(&apply), 0, "a provider runs");
        apply.wait().expect("terraform ends");
    }

    /// `terraform apply`, which must fail with one diagnostic that says all `parts`.
    #[track_caller]
    pub(crate) fn fails(&self, parts: &[&str]) -> Said {
        let said = self.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        said.exits(1).says(parts);
        assert_eq!(said.text.matches("Error: ").count(), 1, "one diagnostic:\n{}", said.text);
        said
    }

    /// `terraform apply -auto-approve`, which must succeed.
    #[track_caller]
    pub(crate) fn apply(&self) -> Said {
        let said = self.run(&["apply", "-auto-approve", "-input=false", "-no-color"]);
        said.exits(0);
        said
    }

    /// `terraform plan -detailed-exitcode`: 0 nothing to do, 1 failed, 2 changes.
    #[track_caller]
    pub(crate) fn plan(&self) -> Said {
        self.run(&["plan", "-detailed-exitcode", "-input=false", "-no-color"])
    }

    /// Panics with the plan unless it holds no changes.
    #[track_caller]
    pub(crate) fn has_no_changes(&self) {
        self.plan().exits(0).says(&["No changes."]);
    }

    /// `terraform destroy`, which must succeed.
    #[track_caller]
    pub(crate) fn destroy(&self) -> Said {
        let said = self.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
        said.exits(0);
        said
    }

    /// The state as `terraform show -json` gives it.
    #[track_caller]
    pub(crate) fn show(&self) -> Value {
        let said = self.run(&["show", "-json", "-no-color"]);
        said.exits(0);
        serde_json::from_str(&said.text).expect("terraform show is JSON")
    }

    /// Attributes of the resource at `address` in the state; null when it is not there.
    #[track_caller]
    pub(crate) fn resource(&self, address: &str) -> Value {
        let state = self.show();
        let resources = state["values"]["root_module"]["resources"].as_array().cloned().unwrap_or_default();
        let found = resources.into_iter().find(|resource| resource["address"] == address);
        found.map_or(Value::Null, |resource| resource["values"].clone())
    }

    /// Id (`NODE/VMID`) of the VM with this name in the examples.
    #[track_caller]
    pub(crate) fn vm(&self, name: &str) -> String {
        let vm = self.resource(&format!("groundwork_vm.machine[\"{name}\"]"));
        vm["id"].as_str().expect("NODE/VMID").to_owned()
    }
}

/// The most memory that a provider of a running terraform has had until now, in KiB (`VmHWM`).
pub(crate) fn provider_memory(terraform: &Child) -> u64 {
    let peak = |provider: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{provider}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    children_named(terraform.id(), "terraform-provi").iter().filter_map(peak).max().unwrap_or(0)
}

/// Kills every provider of a running terraform; how many there were.
pub(crate) fn kill_provider(terraform: &Child) -> usize {
    let providers = children_named(terraform.id(), "terraform-provi");
    for provider in &providers {
        kill(Pid::from_raw(*provider), Signal::SIGKILL).ok();
    }
    providers.len()
}

/// Process ids of the children of `parent` whose name starts with `name`.
fn children_named(parent: u32, name: &str) -> Vec<i32> {
    let children = children(parent).into_iter();
    children.filter(|(_, own)| own.starts_with(name)).map(|(pid, _)| pid).collect()
}

/// Process ids and names of the children of `parent`.
pub(super) fn children(parent: u32) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let is_child = tail.split_whitespace().nth(1) == Some(parent.to_string().as_str());
        if let (true, Some((_, name))) = (is_child, head.split_once('(')) {
            found.push((pid, name.to_owned()));
        }
    }
    found
}

/// The program that is called terraform here: Terraform, or what `scripts/test.sh --terraform` has put in its place.
#[track_caller]
pub(crate) fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("terraform")).find(|path| path.is_file());
    found.expect("terraform on PATH").canonicalize().expect("a file")
}

/// Version of the provider, as mirrors have it in their folders.
#[track_caller]
pub(crate) fn version() -> String {
    let said = run(command(provider_binary()).arg("version"));
    said.text.split_whitespace().nth(1).expect("NAME VERSION (…)").to_owned()
}

/// What Terraform calls the platform that the tests run on.
pub(crate) const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux_arm64" } else { "linux_amd64" };

fn process(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

fn copy_configuration(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("examples") {
        let path = entry.expect("examples").path();
        if path.extension().is_some_and(|end| end == "tf" || end == "yaml") {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copy");
        }
    }
}
