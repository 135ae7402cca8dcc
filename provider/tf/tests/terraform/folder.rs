//! A working folder as a user has it, and a folder of the objects behind it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says so when it is skipped"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value as Json, json};

/// A working folder; gone when dropped.
pub(crate) struct Folder {
    root: tempfile::TempDir,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

/// False, with a word, if there is no Terraform to test with.
pub(crate) fn ready() -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test starts what it tests")]
    let found = Command::new("terraform").arg("version").stdout(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("GROUNDWORK_REQUIRE_TERRAFORM").is_none(), "terraform is missing");
    if !found {
        println!("skipped: terraform is missing");
    }
    found
}

impl Folder {
    #[expect(clippy::disallowed_methods, reason = "scratch files need no atomicity")]
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let this = Self { root };
        fs::create_dir(this.path("objects")).unwrap();
        fs::create_dir(this.path("bin")).unwrap();
        fs::create_dir(this.path("tmp")).unwrap();
        let binary = env!("CARGO_BIN_EXE_terraform-provider-memory");
        std::os::unix::fs::symlink(binary, this.path("bin/terraform-provider-memory")).unwrap();
        let rc = format!(
            "provider_installation {{\n  dev_overrides {{\n    \"test/memory\" = {:?}\n  }}\n  direct {{}}\n}}\n",
            this.path("bin")
        );
        fs::write(this.path("terraform.rc"), rc).unwrap();
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes the configuration: the head every one has, and `body`.
    #[expect(clippy::disallowed_methods, reason = "scratch files need no atomicity")]
    pub(crate) fn write(&self, body: &str) -> &Self {
        let head = "terraform {\n  required_providers {\n    memory = { source = \"test/memory\" }\n  }\n}\n";
        fs::write(self.path("main.tf"), format!("{head}{body}\n")).unwrap();
        self
    }

    /// Writes a file beside the configuration.
    #[expect(clippy::disallowed_methods, reason = "scratch files need no atomicity")]
    pub(crate) fn file(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        #[expect(clippy::disallowed_methods, reason = "a test starts what it tests")]
        let mut command = Command::new("env");
        command
            // Tests that run under nohup ignore the hangup, and so would Terraform, which must die of it.
            .args(["--default-signal=HUP", "terraform"])
            .args(arguments)
            .current_dir(self.root.path())
            .env("TF_CLI_CONFIG_FILE", self.path("terraform.rc"))
            .env("MEMORY_DIR", self.path("objects"))
            .env("TMPDIR", self.path("tmp"))
            .env("CHECKPOINT_DISABLE", "1")
            .env_remove("TF_LOG")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(arguments))
    }

    #[track_caller]
    pub(crate) fn apply(&self) -> Said {
        let said = self.run(&["apply", "-auto-approve", "-input=false"]);
        assert_eq!(said.code, Some(0), "{}", said.text);
        said
    }

    #[track_caller]
    pub(crate) fn apply_fails(&self) -> Said {
        let said = self.run(&["apply", "-auto-approve", "-input=false"]);
        assert_eq!(said.code, Some(1), "{}", said.text);
        said
    }

    /// Plans: 0 without changes, 2 with some.
    #[track_caller]
    pub(crate) fn plan(&self, code: i32) -> Said {
        let said = self.run(&["plan", "-input=false", "-detailed-exitcode"]);
        assert_eq!(said.code, Some(code), "{}", said.text);
        said
    }

    /// The state's entry of `memory_thing.NAME`, if there is one.
    pub(crate) fn instance(&self, name: &str) -> Option<Json> {
        let state = serde_json::from_slice::<Json>(&fs::read(self.path("terraform.tfstate")).ok()?).unwrap();
        let resources = state["resources"].as_array().unwrap();
        let found = resources.iter().find(|resource| resource["name"] == name && resource["mode"] == "managed")?;
        Some(found["instances"][0].clone())
    }

    #[track_caller]
    pub(crate) fn attributes(&self, name: &str) -> Json {
        self.instance(name).expect("the thing is in the state")["attributes"].clone()
    }

    /// An object on the other side.
    pub(crate) fn object(&self, id: &str) -> Option<Json> {
        Some(serde_json::from_slice(&fs::read(self.object_path(id)).ok()?).unwrap())
    }

    /// Changes an object behind Terraform's back.
    #[expect(clippy::disallowed_methods, reason = "scratch files need no atomicity")]
    pub(crate) fn set_object(&self, id: &str, changes: &Json) {
        let mut object = self
            .object(id)
            .unwrap_or_else(|| json!({"name": "", "size": 1, "revision": 1, "password_length": 0, "faults": []}));
        object.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        fs::write(self.object_path(id), object.to_string()).unwrap();
    }

    #[expect(clippy::disallowed_methods, reason = "scratch files need no atomicity")]
    pub(crate) fn set_state(&self, text: &str) {
        fs::write(self.path("terraform.tfstate"), text).unwrap();
    }

    pub(crate) fn remove_object(&self, id: &str) {
        fs::remove_file(self.object_path(id)).unwrap();
    }

    /// The story of leases since it was last asked for.
    pub(crate) fn leases(&self) -> Vec<String> {
        let file = self.path("objects/leases");
        let story = fs::read_to_string(&file).unwrap_or_default();
        drop(fs::remove_file(file));
        story.lines().map(str::to_owned).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        fs::read_dir(self.path("objects")).unwrap().next().is_none()
    }

    fn object_path(&self, id: &str) -> PathBuf {
        Path::new(&self.path("objects")).join(format!("{id}.json"))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        // Terraform wraps and frames what it says.
        let text = without_colours(&text).replace(['│', '╷', '╵'], "");
        Self { code: output.status.code(), text }
    }
}

impl Said {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::from(command.output().unwrap())
    }

    /// Contains these words, whatever the line breaks.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> &Self {
        assert!(flat(&self.text).contains(&flat(words)), "{words:?} is not in:\n{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn never_says(&self, words: &str) -> &Self {
        assert!(!flat(&self.text).contains(&flat(words)), "{words:?} is in:\n{}", self.text);
        self
    }
}

/// Without escape sequences, which end with a letter.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain + &part[end..]
    })
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
