//! What is tried: K3s or RKE2, a stand-in or a real one, and the configuration of a cluster of it.

use crate::harness::{Lab, prepared, repository, run};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::Write as _;

pub(super) const VERSION: &str = "v1.34.3+k3s1";

/// K3s, or RKE2.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) program: &'static str,
    pub(super) server: &'static str,
    pub(super) agent: &'static str,
    pub(super) version: &'static str,
    pub(super) next: &'static str,
}

pub(super) static K3S: Kind =
    Kind { program: "k3s", server: "k3s", agent: "k3s-agent", version: VERSION, next: "v1.34.4+k3s1" };

/// What is tried.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) kind: &'static Kind,
    pub(super) version: String,
    /// What it is served as.
    pub(super) name: &'static str,
    /// SHA-256, hex.
    pub(super) program: String,
    pub(super) images: String,
    /// A K3s, and not what stands in for it.
    pub(super) real: bool,
}

impl Given {
    /// What stands in for K3s, with an etcd in the place of its images.
    #[track_caller]
    pub(super) fn stand_in(lab: &Lab) -> Option<Self> {
        Self::stand_in_of(&K3S, lab)
    }

    #[track_caller]
    pub(super) fn stand_in_of(kind: &'static Kind, lab: &Lab) -> Option<Self> {
        let etcd = prepared("GROUNDWORK_ETCD")?;
        let program = repository().join("tests/lab/k3s/k3s-stand-in");
        Some(Self {
            kind,
            version: kind.version.to_owned(),
            name: "k3s",
            program: served(lab, "k3s", program.as_os_str()),
            images: served(lab, "images.tar.zst", etcd.as_os_str()),
            real: false,
        })
    }

    /// What holds for K3s, as it is with this one.
    pub(super) fn own(&self, line: &str) -> String {
        let Kind { program, server, agent, .. } = self.kind;
        line.replace("k3s-agent", agent)
            .replace("k3s.service", &format!("{server}.service"))
            .replace("rancher/k3s", &format!("rancher/{program}"))
            .replace("bin/k3s", &format!("bin/{program}"))
    }

    /// The next version: of what stands in the same under the next number, of a real one what is given as such.
    #[track_caller]
    pub(super) fn next(&self, lab: &Lab) -> Option<Self> {
        let next = Self { version: self.kind.next.to_owned(), name: "k3s-next", ..self.clone() };
        if self.real {
            let program = std::env::var_os("GROUNDWORK_K3S_NEXT")?;
            return Some(Self { program: served(lab, "k3s-next", &program), ..next });
        }
        let own = std::fs::read_to_string(repository().join("tests/lab/k3s/k3s-stand-in")).expect("the stand-in");
        let [is, becomes] = ["v1.34.3", "v1.34.4"].map(|version| format!("VERSION = \"{version}\""));
        assert!(own.contains(&is), "it is of one version");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(own.replace(&is, &becomes).as_bytes()).expect("a file of the test's own");
        Some(Self { program: served(lab, "k3s-next", file.path().as_os_str()), ..next })
    }

    #[track_caller]
    pub(super) fn real(lab: &Lab, program: &OsStr, images: &OsStr) -> Self {
        Self {
            kind: &K3S,
            version: std::env::var("GROUNDWORK_K3S_VERSION").unwrap_or_else(|_| VERSION.to_owned()),
            name: "k3s",
            program: served(lab, "k3s", program),
            images: served(lab, "images.tar.zst", images),
            real: true,
        }
    }
}

/// A configuration. Packaged components are left out, whose images the archive need not have.
pub(super) struct Wanted<'a> {
    pub(super) servers: &'a [u8],
    pub(super) workers: u8,
    pub(super) label: &'a str,
    pub(super) endpoint: Option<String>,
}

impl<'a> Wanted<'a> {
    pub(super) fn single(workers: u8, label: &'a str) -> Self {
        Self { servers: &[1], workers, label, endpoint: None }
    }

    pub(super) fn configuration(&self, lab: &Lab, given: &Given) -> String {
        let numbered = |name: &str, numbers: &[u8], first: u8| -> Value {
            numbers.iter().map(|at| (format!("{name}-{at}"), json!(lab.address(first + at)))).collect()
        };
        let workers: Vec<u8> = (1..=self.workers).collect();
        let registries =
            json!({ "mirrors": { "registry.example.org": { "endpoint": ["http://registry.example.org"] } } });
        let common = json!({
            // The lab's machines lie on overlays, and share one disk with the host.
            "snapshotter": "native",
            "kubelet-arg": ["eviction-hard=nodefs.available<1%,imagefs.available<1%,memory.available<20Mi", "image-gc-high-threshold=100"],
        });
        let mut server = common.clone();
        server["disable"] = json!(["coredns", "traefik", "servicelb", "local-storage", "metrics-server"]);
        let text = |value: &Value| serde_json::to_string(&value.to_string()).expect("text");
        let whole = include_str!("main.tf");
        let (before, _) = whole.split_once("\n  manifest").expect("a manifest");
        let without = format!("{before}}}\n");
        if given.real { whole } else { &without }
            .replace("@SERVERS@", &numbered("cp", self.servers, 10).to_string())
            .replace("@WORKERS@", &numbered("worker", &workers, 20).to_string())
            .replace("@ENDPOINT@", &json!(self.endpoint).to_string())
            .replace("@GATEWAY@", &lab.address(1))
            .replace("@IMAGE_URL@", &lab.value("LAB_IMAGE_URL"))
            .replace("@IMAGE_SUM@", &lab.value("LAB_IMAGE_SHA256"))
            .replace("@REGISTRIES@", &text(&registries))
            .replace("@KIND@", given.kind.program)
            .replace("@VERSION@", &given.version)
            .replace("@PROGRAM@", given.name)
            .replace("@SUM@", &given.program)
            .replace("@IMAGES_SUM@", &given.images)
            .replace("@SERVER@", &text(&server).replace("${", "$${"))
            .replace("@AGENT@", &text(&common))
            .replace("@LABEL@", self.label)
    }
}

/// Serves a file to the lab's machines; its SHA-256.
#[track_caller]
fn served(lab: &Lab, name: &str, path: &OsStr) -> String {
    lab.serve(name, std::fs::read(path).expect("a file that was given"));
    let said = run::run(run::command("sha256sum").arg(path)).text;
    said.split_whitespace().next().expect("a sum").to_owned()
}
