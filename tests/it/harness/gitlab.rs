//! A GitLab in small: its HTTP state with a lock, its package registry, and gitlab-ci-local as its runner.

use super::run::{Said, command, run};
use super::terraform::{PLATFORM, children, program, version};
use super::{provider_binary, repository};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// What a job proves itself with, and the same as HTTP's user `gitlab-ci-token` with this password.
const TOKEN: &str = "job-token";
const BASIC: &str = "Basic Z2l0bGFiLWNpLXRva2VuOmpvYi10b2tlbg==";

/// The server: whatever the project, it has one state and one package.
pub(crate) struct GitLab {
    url: String,
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    state: Option<Vec<u8>>,
    lock: Option<Value>,
    refused: usize,
    zip: Vec<u8>,
}

impl GitLab {
    /// Listens until the tests end, with this provider in its package registry.
    #[track_caller]
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/api/v4", listener.local_addr().expect("its address"));
        let shelf = Arc::new(Mutex::new(Shelf { zip: zip(), ..Shelf::default() }));
        let served = Arc::clone(&shelf);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shelf = Arc::clone(&served);
                std::thread::spawn(move || answer(client, &shelf));
            }
        });
        Self { url, shelf }
    }

    /// Whether somebody holds the state's lock.
    pub(crate) fn is_locked(&self) -> bool {
        self.shelf.lock().expect("the shelf").lock.is_some()
    }

    /// How often the lock was refused because somebody else held it.
    pub(crate) fn refused(&self) -> usize {
        self.shelf.lock().expect("the shelf").refused
    }

    /// The state as it lies there.
    pub(crate) fn state(&self) -> String {
        let state = self.shelf.lock().expect("the shelf").state.clone().unwrap_or_default();
        String::from_utf8(state).expect("a state is JSON")
    }
}

/// The built provider as `terraform init` unpacks one.
#[track_caller]
fn zip() -> Vec<u8> {
    const ZIP: &str = "import sys, zipfile; zipfile.ZipFile(sys.argv[1], 'w').write(sys.argv[2], sys.argv[3])";
    let file = tempfile::NamedTempFile::new().expect("a file");
    let name = format!("terraform-provider-groundwork_v{}", version());
    run(command("python3").args(["-c", ZIP]).arg(file.path()).arg(provider_binary()).arg(name)).exits(0);
    std::fs::read(file.path()).expect("the zip")
}

/// One request of Terraform or wget; a client that goes away is nobody's fault.
fn answer(client: TcpStream, shelf: &Mutex<Shelf>) {
    let mut client = BufReader::new(client);
    let Some((method, path, headers)) = head(&mut client) else { return };
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let mut body = vec![0; length];
    if client.read_exact(&mut body).is_err() {
        return;
    }
    let (status, body) = shelf.lock().expect("the shelf").respond(&method, &path, &headers, body);
    let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let client = client.get_mut();
    client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body)).ok();
}

type Headers = BTreeMap<String, String>;

fn head(client: &mut BufReader<TcpStream>) -> Option<(String, String, Headers)> {
    let mut lines = client.by_ref().lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let lines = lines.take_while(|line| !line.is_empty());
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some((method, path, headers.collect()))
}

impl Shelf {
    /// As GitLab answers: who has no token sees nothing, and 423 is what Terraform takes for "locked by somebody else".
    fn respond(&mut self, method: &str, path: &str, headers: &Headers, body: Vec<u8>) -> (u16, Vec<u8>) {
        let has = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
        if path.contains("/packages/generic/") {
            let package = format!("_{PLATFORM}.zip");
            return match has("job-token", TOKEN) && path.ends_with(&package) {
                true => (200, self.zip.clone()),
                false => (404, Vec::new()),
            };
        }
        if !has("authorization", BASIC) {
            return (401, Vec::new());
        }
        let id = |lock: &Value| lock["ID"].as_str().unwrap_or_default().to_owned();
        match (method, path.ends_with("/lock")) {
            ("POST", true) => {
                if let Some(lock) = &self.lock {
                    self.refused += 1;
                    return (423, lock.to_string().into_bytes());
                }
                self.lock = serde_json::from_slice(&body).ok();
                (200, Vec::new())
            }
            ("DELETE", true) => {
                let given: Value = serde_json::from_slice(&body).unwrap_or_default();
                if self.lock.as_ref().is_some_and(|lock| id(lock) != id(&given)) {
                    return (409, Vec::new());
                }
                self.lock = None;
                (200, Vec::new())
            }
            ("POST", false) => {
                let own = self.lock.as_ref().is_none_or(|lock| path.contains(&format!("ID={}", id(lock))));
                if own {
                    self.state = Some(body);
                }
                (if own { 200 } else { 409 }, Vec::new())
            }
            ("GET", false) => self.state.clone().map_or((404, Vec::new()), |state| (200, state)),
            _ => (405, Vec::new()),
        }
    }
}

/// A clone of a project that holds `examples/gitlab-ci` as it is, and what its runner knows.
pub(crate) struct Project {
    folder: tempfile::TempDir,
    runner: PathBuf,
}

impl Project {
    /// `variables` are the project's CI/CD variables in gitlab-ci-local's form: those of a scope have a value for each environment.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "scratch files of a test need no atomicity")]
    pub(crate) fn new(gitlab: &GitLab, runner: &Path, variables: &Value) -> Self {
        let this = Self { folder: tempfile::tempdir().expect("a folder"), runner: runner.to_path_buf() };
        for folder in ["project", "home/.gitlab-ci-local", "bin", "seen"] {
            std::fs::create_dir_all(this.path(folder)).expect("a folder");
        }
        let example = repository().join("examples/gitlab-ci");
        for file in std::fs::read_dir(example).expect("the example").flatten() {
            std::fs::copy(file.path(), this.path("project").join(file.file_name())).expect("copy");
        }
        let mut variables = variables.clone();
        variables["CI_API_V4_URL"] = json!(gitlab.url);
        variables["CI_JOB_TOKEN"] = json!(TOKEN);
        let variables = json!({ "global": variables }).to_string();
        std::fs::write(this.path("home/.gitlab-ci-local/variables.yml"), variables).expect("the variables");
        let terraform = format!(
            "#!/bin/sh\nenv >'{}'/\"$CI_JOB_NAME\"\nexec '{}' \"$@\"\n",
            this.path("seen").display(),
            program().display()
        );
        std::fs::write(this.path("bin/terraform"), terraform).expect("a script");
        run(command("chmod").arg("+x").arg(this.path("bin/terraform"))).exits(0);
        for line in [
            "init -q -b main",
            "add -A",
            "-c user.name=it -c user.email=it@example.com commit -q -m machines",
            "remote add origin https://gitlab.example.com/infrastructure/machines.git",
        ] {
            run(command("git").current_dir(this.path("project")).args(line.split(' '))).exits(0);
        }
        this
    }

    /// A file of the project, of its runner (`project/.gitlab-ci-local`), or of what was seen.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The environment that a job's last Terraform had, and nothing of the test's own.
    #[track_caller]
    pub(crate) fn environment_of(&self, job: &str) -> BTreeMap<String, String> {
        let seen = std::fs::read_to_string(self.path("seen").join(job)).expect("the job ran Terraform");
        seen.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// A pipeline of this source (`push`, `merge_request_event`, `schedule`): jobs and options of gitlab-ci-local.
    pub(crate) fn pipeline(&self, source: &str, arguments: &[&str]) -> Command {
        let path = std::env::var("PATH").expect("PATH");
        let mut command = command(&self.runner);
        command
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.path("home"))
            .env("CHECKPOINT_DISABLE", "1")
            .env("NO_COLOR", "1")
            .args(["--home".as_ref(), self.path("home").as_os_str()])
            .args(["--force-shell-executor", "--shell-isolation"])
            .args(["--ignore-predefined-vars", "CI_API_V4_URL,CI_PIPELINE_SOURCE"])
            .args(["--variable", &format!("CI_PIPELINE_SOURCE={source}")])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    /// Runs a pipeline to its end.
    #[track_caller]
    pub(crate) fn runs(&self, source: &str, arguments: &[&str]) -> Said {
        run(&mut self.pipeline(source, arguments))
    }
}

/// Cancels the jobs of a running pipeline as GitLab's runner does: every process of theirs is told SIGTERM, and the runner goes on.
pub(crate) fn cancel(runner: &Child) {
    let mut jobs: Vec<i32> = children(runner.id()).into_iter().map(|(pid, _)| pid).collect();
    let mut told = 0;
    while let Some(pid) = jobs.get(told).copied() {
        jobs.extend(children(pid.unsigned_abs()).into_iter().map(|(pid, _)| pid));
        told += 1;
    }
    for pid in jobs {
        kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
    }
}
