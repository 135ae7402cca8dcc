//! Names of other machines: a marked block in `/etc/hosts`. Lines outside of it are not ours.
//!
//! Source: hosts(5); cloud-init, module `update_etc_hosts`, which rewrites the file at every boot if it is told to manage it.

use crate::host::{Access, Host};
use crate::spec::HostNames;
use crate::step::{File, Step, StepError, Todo, Verb};
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
        let (rest, present) = split(&text);
        let want = self.block();
        if present != want {
            let access = host.stat(FILE)?.map_or(Access::OPEN, |stat| stat.access);
            let file = File { access, ..File::ours(FILE, rest + &want) };
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

/// What is not ours, and our block with its marks.
fn split(text: &str) -> (String, String) {
    let (mut rest, mut block, mut inside) = (String::new(), String::new(), false);
    for line in text.lines() {
        inside |= line == BEGIN;
        let to = if inside { &mut block } else { &mut rest };
        to.push_str(line);
        to.push('\n');
        inside &= line != END;
    }
    (rest, block)
}

const FILE: &str = "/etc/hosts";
const BEGIN: &str = "# BEGIN groundwork";
const END: &str = "# END groundwork";
const CLOUD: &str = "/etc/cloud/cloud.cfg.d/99-zz-groundwork-hosts.cfg";
const KEEP: &str = "# Groundwork keeps a block of names in /etc/hosts.\nmanage_etc_hosts: false\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_ours() {
        let text = format!("127.0.0.1 localhost\n{BEGIN}\n10.0.0.1\ta\n{END}\n::1 localhost\n");
        let (rest, block) = split(&text);
        assert_eq!(rest, "127.0.0.1 localhost\n::1 localhost\n");
        assert_eq!(block, format!("{BEGIN}\n10.0.0.1\ta\n{END}\n"));
    }
}
