//! `docs/guides/vault.md`, line by line: the PKI engine of OpenBao issues below our CA, and what it issues lies on no disk.

use super::{HEAD, MACHINE};
use crate::harness::run::{Said, command, run};
use crate::harness::{Backend, Lab, Terraform, prepared, provider_binary, ready, repository, wait_until};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[test]
fn vault_issues_for_jobs_and_no_more_than_its_issuer_may() {
    let Some(bao) = prepared("GROUNDWORK_OPENBAO") else { return };
    if !ready() {
        return;
    }
    let lab = Lab::start("vault", Backend::Nspawn, &["--kubernetes", "none"]);
    let terraform = Terraform::new(lab.environment());
    let vault = Vault::start(&bao, &terraform);
    let [issuer, roles, ask] = &blocks("console")[..] else { panic!("the guide has three blocks of commands") };
    vault.does(issuer).exits(0);
    assert!(!terraform.path("pki/operator-issuer/ca-key.pem").exists(), "Vault alone has it");
    vault.does(roles).exits(0);

    // The machine is enrolled by the CA itself.
    let head = HEAD.replace("URL", &lab.value("LAB_IMAGE_URL")).replace("SUM", &lab.value("LAB_IMAGE_SHA256"));
    let machine = MACHINE.replace("NAME", "one").replace("ADDRESS", &lab.address(41));
    let whole = head.replace("PKI", "./pki") + &machine;
    terraform.write("main.tf", &whole);
    terraform.apply();
    std::fs::copy(terraform.path("pki/ca.pem"), terraform.path("ca.pem")).expect("copy");

    // From here on by what Vault issues, with the guide's own blocks.
    let by_variable = blocks("terraform").pop().expect("the block with the variable");
    let own = "provider \"groundwork\" {\n  agent { pki_dir = \"PKI\" }\n}\n";
    let head = head.replace(own, &by_variable);
    assert!(head.contains("var.agents"), "{head}");
    terraform.write("main.tf", &(head.clone() + &machine));
    let observer = vault.issued(ask);
    plan(&terraform, &observer).exits(0).says(&["No changes.", "Not looked at"]);
    let operator = vault.issued(&ask.replace("observer", "operator"));
    terraform.write("main.tf", &(head + &machine.replace("declared", "by Vault")));
    plan(&terraform, &observer).exits(2);
    traced(&terraform, &observer, &["apply", "-input=false", "-no-color", "saved.plan"])
        .exits(1)
        .says(&["has the role observer, and this needs operator", "Nothing was asked and nothing was changed."]);
    plan(&terraform, &operator).exits(2);
    traced(&terraform, &operator, &["apply", "-input=false", "-no-color", "saved.plan"]).exits(0);
    assert_eq!(lab.must("one", "cat /etc/motd"), "by Vault");
    // Keys as Vault makes them when nobody says which kind.
    vault.does("vault write groundwork/roles/rsa allowed_uri_sans=groundwork:role:observer require_cn=false").exits(0);
    let rsa = vault.issued(&ask.replace("issue/observer", "issue/rsa"));
    assert!(rsa["private_key"].as_str().is_some_and(|key| key.contains("RSA PRIVATE KEY")), "{}", rsa["certificate"]);
    plan(&terraform, &rsa).exits(0).says(&["No changes."]);
    for issued in [&observer, &operator, &rsa] {
        lies_nowhere(&terraform, issued);
    }

    // Whoever rules Vault can make it sign anything; agents take no more of it than its issuer may give.
    vault.does("vault write groundwork/roles/admin allowed_uri_sans=groundwork:role:admin require_cn=false").exits(0);
    let forged = vault.issued(&ask.replace("observer", "admin"));
    plan(&terraform, &forged).exits(1).says(&["gives more than its issuer may"]);
    let address = lab.address(41);
    assert_eq!(calls(&operator, &address).code, 0, "an operator is answered");
    let refused = calls(&forged, &address);
    assert!([35, 52, 55, 56].contains(&refused.code), "curl {}: {}", refused.code, refused.text);

    terraform.write("main.tf", &whole);
    terraform.destroy();
}

/// A server in memory; gone when dropped.
struct Vault {
    server: Child,
    environment: Vec<(&'static str, String)>,
    folder: PathBuf,
}

impl Vault {
    #[track_caller]
    fn start(bao: &Path, terraform: &Terraform) -> Self {
        // The guide's words: `vault` and the provider, by name.
        let programs = terraform.path("bin");
        std::fs::create_dir_all(&programs).expect("a folder");
        for (name, program) in [("vault", bao), ("terraform-provider-groundwork", &provider_binary())] {
            std::os::unix::fs::symlink(program, programs.join(name)).expect("a link");
        }
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let log = std::fs::File::create(terraform.path("vault.log")).expect("a log");
        let mut server = command(bao);
        server.args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]);
        server.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        let server = server.stdout(Stdio::null()).stderr(log).spawn().expect("a server");
        let path = std::env::var("PATH").expect("PATH");
        let environment = vec![
            ("PATH", format!("{}:{path}", programs.display())),
            ("VAULT_ADDR", format!("http://127.0.0.1:{port}")),
            ("VAULT_TOKEN", "root".to_owned()),
        ];
        let this = Self { server, environment, folder: terraform.path(".") };
        wait_until("the server answers", || this.does("vault status").code == 0);
        this
    }

    fn shell(&self, lines: &str) -> Command {
        let mut shell = command("bash");
        shell.current_dir(&self.folder).envs(self.environment.iter().map(|(name, value)| (name, value)));
        shell.args(["-euo", "pipefail", "-c", lines]);
        shell
    }

    #[track_caller]
    fn does(&self, lines: &str) -> Said {
        run(&mut self.shell(lines))
    }

    /// What the guide's last commands leave in the variable.
    #[track_caller]
    fn issued(&self, ask: &str) -> Value {
        let output = self.shell(&format!("{ask}\nprintf %s \"$TF_VAR_agents\"")).output().expect("a shell");
        assert!(output.status.success(), "{ask}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// The guide's blocks of a language, in their order.
fn blocks(language: &str) -> Vec<String> {
    let guide = std::fs::read_to_string(repository().join("docs/guides/vault.md")).expect("the guide");
    let fence = format!("```{language}\n");
    let blocks = guide.split(&fence).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[track_caller]
fn plan(terraform: &Terraform, issued: &Value) -> Said {
    traced(terraform, issued, &["plan", "-detailed-exitcode", "-input=false", "-no-color", "-out", "saved.plan"])
}

/// Terraform with what Vault issued, and its log at TRACE beside it.
#[track_caller]
fn traced(terraform: &Terraform, issued: &Value, arguments: &[&str]) -> Said {
    let mut command = terraform.command(arguments);
    command.env("TF_VAR_agents", issued.to_string());
    command.env("TF_LOG", "TRACE").env("TF_LOG_PATH", terraform.path("trace.log"));
    run(&mut command)
}

/// The key stands in no file of the working folder: state, saved plan, log.
#[track_caller]
fn lies_nowhere(terraform: &Terraform, issued: &Value) {
    let key = issued["private_key"].as_str().and_then(|key| key.lines().nth(1)).expect("a key");
    let mut folders = vec![terraform.path(".")];
    let mut read = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let text = match name.as_str() {
                "saved.plan" => crate::secrets::unzipped(&entry.path()),
                "vault" | "terraform-provider-groundwork" => continue,
                _ => String::from_utf8_lossy(&std::fs::read(entry.path()).expect("a file")).into_owned(),
            };
            assert!(!text.contains(key), "the key lies in {}", entry.path().display());
            read.push(name);
        }
    }
    for name in ["terraform.tfstate", "saved.plan", "trace.log"] {
        assert!(read.iter().any(|read| read == name), "{name} was looked at: {read:?}");
    }
}

/// curl at the agent with a client certificate, which it takes from files.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a scratch file of a test needs no atomicity")]
fn calls(issued: &Value, address: &str) -> Said {
    let text = |name: &str| issued[name].as_str().expect("PEM").to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("client.pem"), text("certificate") + "\n" + &text("issuing_ca")).expect("a file");
    std::fs::write(folder.path().join("key.pem"), text("private_key")).expect("a file");
    let mut curl = command("curl");
    curl.current_dir(folder.path()).args([
        "-sS",
        "--http2",
        "--max-time",
        "5",
        "--cert",
        "client.pem",
        "--key",
        "key.pem",
    ]);
    // An agent's certificate names its machine and no address.
    run(curl.arg("-k").arg(format!("https://{address}:7443/")))
}
