//! Names of other machines: a marked block in `/etc/hosts`. Lines outside of it are not ours.
//!
//! Source: hosts(5); cloud-init, module `update_etc_hosts`, which rewrites the file at every boot if it is told to manage it.

use super::Step;
use super::block::{self, BEGIN, END};
use crate::change::{File, StepError, Todo, Verb};
use crate::host::Host;
use agent_proto::v1::machine::HostNames;
use std::collections::BTreeMap;

pub(super) struct Hosts(pub(super) BTreeMap<String, HostNames>);

impl Step for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        if !self.0.is_empty() && host.exists("/etc/cloud")? && host.text(CLOUD)?.as_deref() != Some(KEEP) {
            let file = Verb::Write(File::ours(CLOUD, KEEP));
            todo.push(format!("{CLOUD} is not as wanted"), file, "cloud-init may write the file at every boot");
        }
        let text = host.text(FILE)?.unwrap_or_default();
        let (rest, present) = block::split(FILE, &text)?;
        let want = self.block();
        if present != want {
            let file = File { access: host.access(FILE)?, ..File::ours(FILE, rest + &want) };
            let finding = if present.is_empty() { "lacks our names" } else { "does not have our names as declared" };
            todo.push(format!("{FILE} {finding}"), Verb::Write(file), "names without a name server");
        }
        if self.0.is_empty() && host.exists(CLOUD)? {
            todo.push(format!("{CLOUD} is ours"), Verb::Remove(CLOUD.to_owned()), "no names are declared any more");
        }
        Ok(todo)
    }
}

impl Hosts {
    fn block(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let lines: String =
            self.0.iter().map(|(address, hosts)| format!("{address}\t{}\n", hosts.names.join(" "))).collect();
        format!("{BEGIN}\n{lines}{END}\n")
    }
}

const FILE: &str = "/etc/hosts";
const CLOUD: &str = "/etc/cloud/cloud.cfg.d/99-zz-groundwork-hosts.cfg";
const KEEP: &str = "# Groundwork keeps a block of names in /etc/hosts.\nmanage_etc_hosts: false\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[tokio::test]
    async fn a_link_is_replaced_by_a_file_that_others_cannot_write() {
        let host = Fake::template();
        host.link(FILE, "/run/hosts");
        let hosts = Hosts([("10.0.0.1".to_owned(), HostNames { names: vec!["a".to_owned()] })].into());
        let changes = hosts.missing(&host).await.unwrap().changes;
        let Some(Verb::Write(file)) = changes.last().map(|change| &change.verb) else { panic!("{changes:?}") };
        assert_eq!((file.path.as_str(), file.access.mode), (FILE, 0o644));
    }
}
