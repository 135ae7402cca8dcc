//! Guarded commands: what no other step covers. A command runs only while its guard says that its work is not done.

use super::Step;
use crate::change::{StepError, Todo, Verb};
use crate::host::{Command, Host};
use agent_proto::v1::machine::CommandSpec;
use std::collections::BTreeMap;

/// Commands by name.
pub(super) struct Commands(pub(super) BTreeMap<String, CommandSpec>);

impl Step for Commands {
    fn name(&self) -> &'static str {
        "commands"
    }

    async fn missing(&self, host: &dyn Host) -> Result<Todo, StepError> {
        let mut todo = Todo::default();
        for (name, command) in &self.0 {
            if let Some(finding) = undone(host, command).await? {
                let (argv, timeout_s) = (command.argv.clone(), command.timeout_s.unwrap_or(LIFE_S));
                todo.push(
                    format!("{name}: {finding}"),
                    Verb::Run { argv, timeout_s, name: name.clone() },
                    "its guard asks for it",
                );
            }
        }
        Ok(todo)
    }
}

/// What the guard says, if the command is still to be run.
async fn undone(host: &dyn Host, command: &CommandSpec) -> Result<Option<String>, StepError> {
    if let Some(path) = &command.creates {
        return Ok((!host.exists(path)?).then(|| format!("{path} is missing")));
    }
    let Some((program, args)) = command.unless.split_first() else { return Ok(None) };
    let guard = host.run(&Command::new(program, args), &|_| ()).await?;
    Ok((guard.code != Some(0)).then(|| format!("{program} says it is not done")))
}

/// Seconds a command may take unless told otherwise.
const LIFE_S: u32 = 600;
