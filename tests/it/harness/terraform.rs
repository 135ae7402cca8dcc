//! A Terraform working folder with our provider, as a user has it.

use super::run::{Said, command, run};
use super::{Lab, provider_binary, repository};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

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
        self.command(arguments).stdout(log).stderr(errors).spawn().expect("terraform starts")
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
}

fn copy_configuration(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("examples") {
        let path = entry.expect("examples").path();
        if path.extension().is_some_and(|end| end == "tf") {
            std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copy");
        }
    }
}
