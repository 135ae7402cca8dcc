//! The end of a machine's first boot, as its agent sees it.

use super::until::Until;
use super::{Agents, Endpoint, Error, Wait};
use agent_proto::v1::{self as wire, first_boot::Standing};
use std::time::Duration;
use trust::Role;

/// What the first boot came to, in cloud-init's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FirstBoot {
    /// What failed.
    pub(crate) errors: Vec<String>,
    /// What was left out or complained of.
    pub(crate) warnings: Vec<String>,
}

impl Agents {
    /// Waits until cloud-init has come to its end on the machine. One that does not answer meanwhile may restart itself.
    pub(crate) async fn first_boot(&self, endpoint: &Endpoint, wait: &Wait<'_>) -> Result<FirstBoot, Error> {
        let (mut pause, mut told) = (SHORT, String::new());
        loop {
            let error = match self.look(endpoint, &wait.until()).await {
                Ok(Ok(first_boot)) => return Ok(first_boot),
                Ok(Err(error)) => error,
                Err(error) if error.may_pass() => error,
                Err(error) => return Err(error),
            };
            let line = error.to_string();
            if line != told {
                (wait.progress)(&line);
                told = line;
            }
            wait.pause(pause, "the first boot", error).await?;
            pause = (pause * 2).min(LONG);
        }
    }

    /// Asks once; the inner error says how far it is.
    async fn look(&self, endpoint: &Endpoint, until: &Until) -> Result<Result<FirstBoot, Error>, Error> {
        let said = self.connect(endpoint, Role::Operator, until).await?.describe().await?.first_boot;
        if said.standing() == Standing::Running {
            let stage = if said.stage.is_empty() { "its beginning".to_owned() } else { said.stage };
            return Ok(Err(Error::Booting { address: endpoint.address.clone(), stage }));
        }
        let wire::FirstBoot { errors, warnings, .. } = said;
        Ok(Ok(FirstBoot { errors: plain::list(errors), warnings: plain::list(warnings) }))
    }
}

const SHORT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(4);
