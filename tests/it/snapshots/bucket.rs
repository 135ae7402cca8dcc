//! A server of S3 with a CA of its own, as in many a home: Versity's gateway, which keeps objects as files.

use crate::harness::run::{command, run};
use crate::harness::{Lab, prepared, wait_until};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Of its one access key.
pub(super) const ID: &str = "groundwork";
pub(super) const SECRET: &str = "a-secret-of-the-bucket";
/// Its one bucket.
pub(super) const BUCKET: &str = "etcd-snapshots";

/// Runs until it is dropped.
pub(super) struct Server {
    program: PathBuf,
    address: String,
    folder: tempfile::TempDir,
    running: Option<Child>,
}

impl Server {
    /// `None` where the program is not prepared.
    pub(super) fn start(lab: &Lab) -> Option<Self> {
        let program = prepared("GROUNDWORK_VERSITYGW")?;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET)).expect("a bucket");
        let address = lab.address(254);
        certify(folder.path(), &address);
        let mut server = Self { program, address, folder, running: None };
        server.begin();
        Some(server)
    }

    pub(super) fn begin(&mut self) {
        let at = format!("{}:{PORT}", self.address);
        let path = |name: &str| self.folder.path().join(name);
        let mut gateway = command(&self.program);
        gateway.args(["--access", ID, "--secret", SECRET, "--port", &at, "--cert"]).arg(path("server.pem"));
        gateway.arg("--key").arg(path("server.key")).arg("posix").arg(path("data"));
        let log = std::fs::File::create(path("log")).expect("a log");
        let running = gateway.stdout(Stdio::null()).stderr(log).spawn().expect("the gateway starts");
        self.running = Some(running);
        wait_until("the bucket's server listens", || TcpStream::connect(&at).is_ok());
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.kill());
            drop(running.wait());
        }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("https://{}:{PORT}", self.address)
    }

    /// PEM.
    pub(super) fn ca_certificate(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("ca.pem")).expect("the CA's certificate")
    }

    /// Names of objects under a prefix, sorted.
    pub(super) fn objects(&self, prefix: &str) -> Vec<String> {
        let folder = self.folder(prefix);
        let entries = std::fs::read_dir(folder).map(|all| all.flatten().collect::<Vec<_>>()).unwrap_or_default();
        let mut names: Vec<String> =
            entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Sum of an object, as `sha256sum` gives it.
    pub(super) fn sum(&self, key: &str) -> String {
        let said = run(command("sha256sum").arg(self.folder(key)));
        said.text.split_whitespace().next().expect("a sum").to_owned()
    }

    fn folder(&self, key: &str) -> PathBuf {
        self.folder.path().join("data").join(BUCKET).join(key)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn certify(folder: &Path, address: &str) {
    let script = format!(
        "cd \"$1\" && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=bucket-ca -keyout ca.key -out ca.pem && \
         openssl req -newkey rsa:2048 -nodes -subj /CN=bucket -keyout server.key -out server.csr && \
         echo subjectAltName=IP:{address} >ext && \
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem"
    );
    let said = run(command("sh").args(["-ec", &script, "sh"]).arg(folder));
    assert_eq!(said.code, 0, "{}", said.text);
}

const PORT: u16 = 7070;
