//! An API server as kubectl shows it: who manages which fields, kinds that are defined, and answers after which the agent dies.
//!
//! Imitated after kubectl 1.36: what it prints, and that it goes on with the other objects when it fails with one.

use crate::cluster::kube::{ADMIN, CA};
use crate::cluster::status::cluster_id_of;
use crate::host::{Access, BoxFuture, Command, Compared, Host, HostError, Kind, Lines, Output, Probe, Runtime, Stat};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

/// A control plane with its API server.
pub(super) struct Server {
    inner: Mutex<Inner>,
    authority: String,
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    /// Names in the order in which they were made.
    order: Vec<String>,
    dies_after: Option<usize>,
}

#[derive(Default)]
struct Object {
    body: Value,
    /// Who manages its fields.
    manager: String,
    uid: usize,
    /// Looks at it so far: a kind is established when it is looked at again.
    looks: u32,
}

impl Default for Server {
    fn default() -> Self {
        let authority = rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem();
        Self { inner: Mutex::default(), authority }
    }
}

impl Server {
    pub(super) fn cluster_id(&self) -> String {
        cluster_id_of(self.authority.as_bytes()).unwrap()
    }

    /// The agent dies with the answer after so many.
    pub(super) fn dies_after(&self, answers: Option<usize>) {
        self.inner().dies_after = answers;
    }

    /// Objects that are no inventories.
    pub(super) fn objects(&self) -> Vec<String> {
        self.inner().objects.keys().filter(|name| !name.contains("groundwork-manifest-")).cloned().collect()
    }

    /// The same in the order in which they were made.
    pub(super) fn order(&self) -> Vec<String> {
        self.inner().order.iter().filter(|name| !name.contains("groundwork-manifest-")).cloned().collect()
    }

    pub(super) fn delete(&self, name: &str) {
        self.inner().objects.remove(name).unwrap();
    }

    /// Somebody makes an object by hand.
    pub(super) fn make(&self, name: &str) {
        let (kind, path) = name.split_once(' ').unwrap();
        let (namespace, own) = path.split_once('/').unwrap();
        let body = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": own, "namespace": namespace } });
        let object = Object { body, manager: "kubectl".to_owned(), uid: usize::MAX, looks: 0 };
        self.inner().objects.insert(name.to_owned(), object);
    }

    /// Somebody takes the fields of an object over.
    pub(super) fn take(&self, name: &str, manager: &str) {
        self.inner().objects.get_mut(name).unwrap().manager = manager.to_owned();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn kubectl(&self, command: &Command) -> Output {
        let args: Vec<&str> = command.args.iter().map(String::as_str).filter(|word| !IGNORED.contains(word)).collect();
        let given = command.stdin.clone().unwrap_or_default();
        let given = String::from_utf8(given).unwrap();
        let mut inner = self.inner();
        match args.as_slice() {
            ["patch", "--local", ..] if given.starts_with('{') => said(&given),
            ["patch", "--local", ..] => failed("error: unable to decode \"STDIN\": json: cannot unmarshal string\n"),
            ["apply", "--server-side", "--field-manager=groundwork", "--filename=-", rest @ ..] => {
                inner.apply(&items(&given), rest == ["--force-conflicts"])
            }
            ["get", "configmaps", ..] => {
                let is_inventory =
                    |object: &&Object| object.body["metadata"]["labels"]["groundwork/manifest"].is_string();
                let maps: Vec<&Value> =
                    inner.objects.values().filter(is_inventory).map(|object| &object.body).collect();
                said(&json!({ "items": maps }).to_string())
            }
            ["get", "--ignore-not-found", ..] => inner.get(&items(&given)),
            ["delete", "--ignore-not-found", ..] => {
                items(&given).iter().for_each(|item| drop(inner.objects.remove(&name_of(item))));
                said("")
            }
            ["delete", "configmap", name, ..] => {
                inner.objects.remove(&format!("ConfigMap kube-system/{name}"));
                said("")
            }
            _ => panic!("nobody imitates {command}"),
        }
    }
}

impl Inner {
    /// Each by itself; what fails is said at the end.
    fn apply(&mut self, items: &[Value], force: bool) -> Output {
        let mut errors = String::new();
        for item in items {
            let name = name_of(item);
            if item["apiVersion"] == "example.org/v1" && !self.is_established() {
                errors +=
                    "error: resource mapping not found: no matches for kind \"Colour\" in version \"example.org/v1\"\n";
                continue;
            }
            let foreign = self.objects.get(&name).filter(|object| object.manager != "groundwork" && !force);
            if let Some(object) = foreign {
                let manager = &object.manager;
                errors += &format!(
                    "error: Apply failed with 1 conflict: conflict with {manager:?} using v1: .data.x\nPlease review the fields above--\n"
                );
                continue;
            }
            let known = self.objects.get(&name).map(|object| object.uid);
            if known.is_none() {
                self.order.push(name.clone());
            }
            let uid = known.unwrap_or(self.order.len());
            self.objects.insert(name, Object { body: item.clone(), manager: "groundwork".to_owned(), uid, looks: 0 });
        }
        if errors.is_empty() { said("") } else { failed(&errors) }
    }

    fn is_established(&self) -> bool {
        self.objects.get("CustomResourceDefinition Colour").is_some_and(|object| object.looks > 1)
    }

    fn get(&mut self, items: &[Value]) -> Output {
        let mut found = Vec::new();
        for item in items {
            let Some(object) = self.objects.get_mut(&name_of(item)) else { continue };
            object.looks += 1;
            let mut body = object.body.clone();
            // Of what has but a name nobody manages a field.
            if body["data"].is_object() {
                let entry = json!({ "manager": object.manager, "operation": "Apply", "fieldsV1": body["data"] });
                body["metadata"]["managedFields"] = json!([entry]);
            }
            body["metadata"]["uid"] = json!(object.uid.to_string());
            if object.looks > 1 {
                body["status"]["conditions"] = json!([{ "type": "Established", "status": "True" }]);
            }
            found.push(body);
        }
        said(&json!({ "kind": "List", "items": found }).to_string())
    }
}

fn name_of(item: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&item["kind"]), text(&item["metadata"]["name"]));
    match item["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn items(given: &str) -> Vec<Value> {
    let given: Value = serde_json::from_str(given).unwrap();
    given["items"].as_array().cloned().unwrap_or_else(|| vec![given])
}

fn said(stdout: &str) -> Output {
    Output { code: Some(0), stdout: stdout.to_owned(), stderr: String::new() }
}

fn failed(stderr: &str) -> Output {
    Output { code: Some(1), stdout: String::new(), stderr: stderr.to_owned() }
}

const IGNORED: [&str; 4] = ["--kubeconfig", ADMIN, "--cache-dir=/run/groundwork/kubectl", "--request-timeout=60s"];

impl Host for Server {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok((path == CA).then(|| self.authority.clone().into_bytes()))
    }

    fn stat(&self, path: &str) -> Result<Option<Stat>, HostError> {
        let is_there = [ADMIN, CA].contains(&path);
        let stat = Stat { kind: Kind::File, access: Access::PRIVATE, modified: SystemTime::UNIX_EPOCH };
        Ok(is_there.then_some(stat))
    }

    fn compare(&self, path: &str, _: &[u8]) -> Result<Option<Compared>, HostError> {
        panic!("{path} is nobody's business here")
    }

    fn copy(&self, path: &str, _: &str, _: Access) -> Result<Option<Stat>, HostError> {
        panic!("{path} is nobody's business here")
    }

    fn list(&self, _: &str) -> Result<Vec<String>, HostError> {
        Ok(Vec::new())
    }

    fn write(&self, path: &str, _: &[u8], _: Access) -> Result<(), HostError> {
        panic!("{path} is nobody's business here: a manifest may hold secrets")
    }

    fn link(&self, path: &str, _: &str) -> Result<(), HostError> {
        panic!("{path} is nobody's business here")
    }

    fn remove(&self, path: &str) -> Result<(), HostError> {
        panic!("{path} is nobody's business here")
    }

    fn poke(&self, path: &str, _: &str) -> Result<(), HostError> {
        panic!("{path} is nobody's business here")
    }

    fn probe(&self, _: &str) -> Result<Option<Probe>, HostError> {
        Ok(None)
    }

    fn run<'a>(&'a self, command: &'a Command, _: Lines<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        let left = self.inner().dies_after;
        if left == Some(0) {
            let source = std::io::Error::other("the agent is dead");
            return Box::pin(ready(Err(HostError::Spawn { program: command.program.clone(), source })));
        }
        self.inner().dies_after = left.map(|left| left - 1);
        Box::pin(ready(Ok(self.kubectl(command))))
    }

    fn settle<'a>(&'a self, _: Lines<'a>) -> BoxFuture<'a, Result<(), HostError>> {
        Box::pin(ready(Ok(())))
    }

    fn runtime<'a>(&'a self, socket: &'a str) -> BoxFuture<'a, Result<Runtime, HostError>> {
        let why = "not imitated".to_owned();
        Box::pin(ready(Err(HostError::Runtime { socket: socket.to_owned(), why })))
    }
}
