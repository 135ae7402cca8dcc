//! Agents' errors, told as: what happened, what holds now, what to do next.

use super::sentence;
use crate::agents::{Ending, Error, RunFailure};
use tf::{Diagnostic, chain};

/// The diagnostic for a failed act towards an agent; `act` reads `prepare machine 192.0.2.11:7443`.
pub(crate) fn agent(act: &str, error: &Error) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("Cannot {act}"));
    if let Error::Run { address, failure } = error {
        return run(diagnostic, address, failure);
    }
    let said = sentence(&chain(error));
    diagnostic.happened(said).holds(holds(error)).next(next(error))
}

/// The diagnostic for a node that does not leave its cluster; `limit` is the attribute that gives the time for its pods.
pub(crate) fn leaving(act: &str, error: &Error, limit: &str) -> Diagnostic {
    let Some(failure) = not_stopped(error) else { return agent(act, error) };
    let (holds, next) = match failure.step.as_str() {
        "drain" => (
            "The machine is a node of its cluster still, and was not reset.",
            format!(
                "Let the pods that are named go: more replicas elsewhere, a budget that allows one to miss, or a longer `{limit}`. Then \
                 apply again. If the node is to stay, `kubectl uncordon` it."
            ),
        ),
        "quorum" => (
            "Nothing was changed.",
            "Destroy the `groundwork_cluster` first, or get its control planes ready again. If this cluster may be lost with its machine, \
             run `kubeadm reset` there, or switch the machine off, and apply again."
                .to_owned(),
        ),
        _ => return agent(act, error),
    };
    Diagnostic::error(format!("Cannot {act}")).happened(sentence(&failure.message)).holds(holds).next(next)
}

/// The diagnostic for a node that does not get another version; `limit` is the attribute that gives the time for its pods.
pub(crate) fn upgrading(act: &str, error: &Error, limit: &str) -> Diagnostic {
    let Some(failure) = not_stopped(error) else { return agent(act, error) };
    let (holds, next) = match failure.step.as_str() {
        "drain" => (
            "Its kubelet is the one of before, and it takes pods again, unless somebody had cordoned it. Nodes that were upgraded stay so.",
            format!(
                "Let the pods that are named go: more replicas elsewhere, a budget that allows one to miss, or a longer `{limit}`. Then \
                 apply again: the upgrade goes on with this node."
            ),
        ),
        "offer" => (
            "Nothing was changed.",
            "Set `kubernetes.version` of the node's `groundwork_machine` to the cluster's new version, and see that the repository has it."
                .to_owned(),
        ),
        "programs" => (
            "Nothing was changed.",
            "Upgrade the cluster with what made it, with Kubespray by its `upgrade-cluster.yml`, and set `version` to what it is then.".to_owned(),
        ),
        "skew" => ("The node was not changed.", "Set `version` to one that the node may have, and apply again.".to_owned()),
        _ => return agent(act, error),
    };
    Diagnostic::error(format!("Cannot {act}")).happened(sentence(&failure.message)).holds(holds).next(next)
}

/// The diagnostic for a node that does not take another configuration, which its agent has taken back then.
pub(crate) fn configuring(act: &str, error: &Error) -> Diagnostic {
    let Some(failure) = not_stopped(error) else { return agent(act, error) };
    Diagnostic::error(format!("Cannot {act}"))
        .happened(sentence(&failure.message))
        .holds("Nodes that were changed before it stay so, and no other one was touched.")
        .next("Correct it, or take it back, and apply again: every node that is not as it is declared is changed then.")
}

/// How a run failed that nobody stopped.
fn not_stopped(error: &Error) -> Option<&RunFailure> {
    match error {
        Error::Run { failure, .. } if !failure.cancelled => Some(failure),
        _ => None,
    }
}

/// The warning for something that an agent noted in a run that went well.
pub(crate) fn noted(subject: &str, line: &str) -> Diagnostic {
    Diagnostic::warning(format!("A note about {subject}")).happened(sentence(line))
}

/// The diagnostic for an agent that was not enrolled. `holds` says what there is of its VM, and `limit` is the attribute that
/// gives the time for it; `hint`, with a space before it, what else may help.
pub(crate) fn enrolment(act: &str, error: &Error, holds: &str, (limit, hint): (&str, &str)) -> Diagnostic {
    let next = match error {
        Error::Deadline { .. } => format!("Look at the machine's console, raise `{limit}`, and apply again.{hint}"),
        Error::Stopped | Error::NotEnrolled { .. } => "Apply again.".to_owned(),
        Error::NotProven { .. } => {
            "Apply again. If it happens again, something between here and the machine answers in its place.".to_owned()
        }
        other => next(other),
    };
    Diagnostic::error(format!("Cannot {act}")).happened(sentence(&chain(error))).holds(holds).next(next)
}

/// The warning for a machine that gives no answer while refreshing: the state stays as it is.
pub(crate) fn unreachable(kind: &str, identity: &str, error: &Error) -> Diagnostic {
    let next = "Start the machine, or see why nothing answers at that address, and plan again.";
    unreachable_then(kind, identity, error, next)
}

/// The same where the resource knows more of what to do.
pub(crate) fn unreachable_then(kind: &str, identity: &str, error: &Error, next: &str) -> Diagnostic {
    Diagnostic::warning(format!("Cannot look at {kind} {identity}"))
        .happened(sentence(&chain(error)))
        .holds("What the state says about it was kept, and no difference inside the machine can be shown.")
        .next(next)
}

/// The warning for somebody else at a machine's address while refreshing: nothing of him is believed, and the state stays as it is.
pub(crate) fn somebody_else(kind: &str, identity: &str, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Cannot look at {kind} {identity}: it is not the one of the state"))
        .happened(sentence(&chain(error)))
        .holds("What the state says about it was kept, nothing was asked of whoever answers, and an apply refuses to change anything there.")
        .next(next(error))
}

/// The warning for what a client certificate of the role observer may not look at.
pub(crate) fn not_looked_at(kind: &str, identity: &str, what: &[String]) -> Diagnostic {
    Diagnostic::warning(format!("Not looked at: part of {kind} {identity}"))
        .happened(format!("The provider may look as an observer only, and these were not looked at:\n  {}", what.join("\n  ")))
        .holds("Whether they are as declared is not known: no difference of theirs is shown.")
        .next("Plan with the role operator to see them. A file is seen by observers once it was applied as it is declared.")
}

/// The warning for a certificate that comes near its end, or is over.
pub(crate) fn ending(ending: &Ending) -> Diagnostic {
    let Ending { attribute, subject, until, is_over } = ending;
    let (word, next) = match (*is_over, *attribute) {
        (true, _) => ("has ended", "Agents take nothing of it any more. "),
        (false, _) => ("ends soon", ""),
    };
    let cure = match *attribute {
        "client_cert_pem" => "`terraform-provider-groundwork pki issue` makes another.",
        _ => {
            "`terraform-provider-groundwork pki rotate` takes machines over to another CA; `pki intermediate` makes another issuer."
        }
    };
    Diagnostic::warning(format!("A certificate of the agents' PKI {word}"))
        .happened(format!("The certificate of {subject} in `agent.{attribute}` counts until {until}."))
        .next(format!("{next}{cure}"))
        .at(tf::Path::from("agent").name(attribute))
}

/// The warning for an agent that is newer than this provider.
pub(crate) fn newer(kind: &str, identity: &str, agent: &str) -> Diagnostic {
    Diagnostic::warning(format!("The agent of {kind} {identity} is newer than this provider"))
        .happened(format!("The agent is {agent}, and the provider {}.", env!("CARGO_PKG_VERSION")))
        .holds("It is used as it is: newer agents understand older providers.")
        .next(format!("Use version {agent} of the provider, or a newer one."))
}

fn run(diagnostic: Diagnostic, address: &str, failure: &RunFailure) -> Diagnostic {
    let RunFailure { run_id, step, change, message, output, cancelled } = failure;
    if *cancelled {
        return diagnostic
            .happened(format!("Run {run_id} on {address} was stopped before its next change."))
            .holds("What was done until then holds; nothing is half done.")
            .next("Apply again: only what is missing will be done.");
    }
    if failure.is_foreign() {
        return diagnostic
            .happened(format!("Run {run_id} on {address} was refused: {}", sentence(message)))
            .holds("Nothing was changed on the machine.")
            .next(
                "Give another machine. If what stands on this one may go, run `kubeadm reset` there and apply again.",
            );
    }
    let place = [step.as_str(), change.as_str()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    let mut happened = format!("Run {run_id} on {address} failed at {}: {}", place.join(", "), sentence(message));
    if !output.is_empty() {
        happened.push_str("\n\nIts last lines:\n  ");
        happened.push_str(&output.join("\n  "));
    }
    diagnostic
        .happened(happened)
        .holds("What was done before holds; nothing else was changed.")
        .next(format!("Remove the cause and apply again: only what is missing will be done. `journalctl -u groundwork-agent` on the machine has the whole story of run {run_id}."))
}

fn holds(error: &Error) -> &'static str {
    match error {
        Error::NoAuthority
        | Error::UnknownAuthority
        | Error::BadAuthority(_)
        | Error::LesserRole { .. }
        | Error::Ceiling { .. }
        | Error::NoKey { .. }
        | Error::Over { .. }
        | Error::PkiFile { .. }
        | Error::NoBinary
        | Error::NoBinaryFor { .. } => "Nothing was asked and nothing was changed.",
        Error::TakenBack { .. } => "The machine has its old agent again, and nothing else was changed on it.",
        Error::BadEndpoint(_)
        | Error::NotKnown { .. }
        | Error::Outdated { .. }
        | Error::NoProgram { .. }
        | Error::Refused { .. }
        | Error::Busy { .. } => "Nothing was changed on the machine.",
        Error::OtherKey { .. } | Error::OldKey { .. } | Error::OtherAuthority { .. } | Error::OtherMachine { .. } => {
            "Nothing was asked of the machine at that address."
        }
        Error::NotEnrolled { .. } | Error::AlreadyEnrolled { .. } | Error::NotProven { .. } => {
            "The machine runs, and its agent is not enrolled by this configuration."
        }
        Error::Unreachable { .. } | Error::Closed { .. } | Error::Clock { .. } | Error::Booting { .. } => {
            "What was done before holds."
        }
        Error::Run { .. } | Error::Away { .. } | Error::Deadline { .. } | Error::Stopped => {
            "What was done until then holds. If the agent is still in a run, the next apply waits for its end."
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each error")]
fn next(error: &Error) -> String {
    let text = match error {
        Error::NoAuthority => {
            "Set `agent { pki_dir = … }` in the provider block, or GROUNDWORK_AGENT_PKI_DIR; \
             `terraform-provider-groundwork pki init DIR` makes the CA."
        }
        Error::UnknownAuthority => "Apply what the provider block depends on first, with `terraform apply -target=…`.",
        Error::BadAuthority(_) | Error::PkiFile { .. } => {
            "Check `agent.ca_cert_pem` with `agent.ca_key_pem` or with `agent.client_cert_pem` and `agent.client_key_pem`, or the folder \
             `agent.pki_dir`, of the provider block, or their environment variables. `terraform-provider-groundwork pki show FILE` explains \
             each file."
        }
        Error::LesserRole { needs, .. } => {
            return format!(
                "Apply where the provider block has `agent.ca_key_pem`, or a `client_cert_pem` with its `client_key_pem` of the role {role}: \
                 `terraform-provider-groundwork pki issue --role {role} DIR` makes them.",
                role = needs.word()
            );
        }
        Error::Ceiling { .. } => {
            "Apply where the provider block has the `agent.ca_key_pem` of the CA itself, or of an issuer that may give more."
        }
        Error::NoKey { .. } => {
            "Apply where the provider block has `agent.ca_key_pem`, or a `pki_dir` with `ca-key.pem`."
        }
        Error::Over { .. } => "Make another: `terraform-provider-groundwork pki issue --role … DIR`.",
        Error::NoBinary => "Build the provider with `scripts/install.sh`: a plain `cargo build` leaves the agent out.",
        Error::NoBinaryFor { .. } => {
            "Use a release of the provider, which carries all agents, or build it with `scripts/install.sh --agents all`."
        }
        Error::BadEndpoint(_) => {
            "Give `endpoint` the value of a `groundwork_vm`'s or a `groundwork_agent`'s `endpoint`."
        }
        Error::Unreachable { .. } => {
            "See that the machine runs and that this TCP port is open between here and there, and apply again."
        }
        Error::Closed { .. } => {
            "See whether the agent runs there (`systemctl status groundwork-agent` on the machine), and apply again."
        }
        Error::Away { .. } => {
            "See whether the machine is switched off or hangs, get it to run again, and apply again: only what is missing will be done."
        }
        Error::Booting { .. } => "Wait for the machine's first boot to end, and apply again.",
        Error::OtherKey { .. } => {
            "If the machine was rebuilt, replace its VM, `terraform apply -replace=…`, or apply its `groundwork_agent`, which installs the \
             agent anew. If it was not, another machine answers at its address."
        }
        Error::OldKey { .. } => {
            "If the machine was set back to a snapshot or backup from before its key was renewed, take the object out of the state, \
             `terraform state rm`, and import it again by its address and fingerprint. If it was not, somebody answers with a key that \
             was laid down: replace the machine."
        }
        Error::OtherAuthority { .. } => "Give the provider the CA that the machine was installed with.",
        Error::Clock { .. } => "Correct the machine's clock or this computer's, restart the machine, and apply again.",
        Error::NotEnrolled { .. } | Error::AlreadyEnrolled { .. } => {
            "Replace the VM, `terraform apply -replace=…`, or give the provider the CA that enrolled it."
        }
        Error::OtherMachine { .. } => "Give each machine an address of its own.",
        Error::NotProven { .. } => "See what answers at this address in place of the machine.",
        Error::NotKnown { .. } => {
            "Leave out what it does not know, use another version of the provider, or replace the VM, `terraform apply \
             -replace=…`: a new machine gets this provider's agent."
        }
        Error::Outdated { provider, agent, .. } => {
            return format!(
                "Remove `agent_update = false` from the provider block's `agent`, and the next apply updates the agent to {provider}; \
                 or use version {agent} of the provider."
            );
        }
        Error::NoProgram { .. } => {
            "Use a release of the provider, which carries all agents, build it with `scripts/install.sh --agents all`, or use the \
             version of the provider that fits the agent."
        }
        Error::TakenBack { .. } => {
            "`journalctl -u groundwork-agent` on the machine says why the new agent did not come up. The next apply tries it again."
        }
        Error::Busy { .. } => "Wait for the other run to end, and apply again.",
        Error::Refused { .. } => "Correct what the agent names, and apply again.",
        Error::Run { .. } | Error::Stopped => "Apply again: only what is missing will be done.",
        Error::Deadline { .. } => "Look at the machine's console, raise `timeouts`, and apply again.",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_names_its_step_its_run_and_what_was_printed() {
        let failure = RunFailure {
            run_id: "r7".to_owned(),
            step: "packages".to_owned(),
            change: "install kubelet".to_owned(),
            message: "apt-get ended with 100".to_owned(),
            output: vec!["E: Unable to locate package kubelet".to_owned()],
            cancelled: false,
        };
        let error = Error::Run { address: "192.0.2.1:7443".to_owned(), failure: Box::new(failure) };
        let said = agent("prepare machine cp-1", &error).to_string();
        for part in [
            "Error: Cannot prepare machine cp-1",
            "r7",
            "packages, install kubelet",
            "E: Unable to locate package kubelet",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[test]
    fn an_enrolment_that_was_stopped_says_what_there_is_of_the_vm() {
        let said = enrolment("enrol the agent of VM 120", &Error::Stopped, "The VM exists.", ("timeouts.create", ""))
            .to_string();
        assert!(said.ends_with("Stopped on request.\n\nThe VM exists.\n\nApply again."), "{said}");
        let late = Error::Deadline { what: "the enrolment".to_owned(), last: None };
        let said = enrolment("enrol the agent of VM 120", &late, "The VM exists.", ("timeouts.create", "")).to_string();
        assert!(said.contains("raise `timeouts.create`"), "{said}");
    }

    #[test]
    fn pods_that_stay_are_named_with_the_attribute_that_gives_them_time() {
        let message = "pods do not leave worker-1 within 60 s, and it stays cordoned: default/web: the disruption budget web needs 2";
        let failure = RunFailure { step: "drain".to_owned(), message: message.to_owned(), ..RunFailure::default() };
        let error = Error::Run { address: "192.0.2.1:7443".to_owned(), failure: Box::new(failure) };
        let said = leaving("destroy VM 120", &error, "timeouts.delete").to_string();
        for part in [
            "Cannot destroy VM 120",
            "Pods do not leave worker-1",
            "budget web",
            "`timeouts.delete`",
            "kubectl uncordon",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[test]
    fn an_upgrade_that_stops_says_what_the_node_is_and_what_helps() {
        let said = |step: &str, cancelled| {
            let failure = RunFailure {
                step: step.to_owned(),
                message: "it failed".to_owned(),
                cancelled,
                ..RunFailure::default()
            };
            let error = Error::Run { address: "192.0.2.1:7443".to_owned(), failure: Box::new(failure) };
            upgrading("upgrade node worker-1", &error, "drain_timeout").to_string()
        };
        for (step, words) in [
            ("drain", "it takes pods again"),
            ("drain", "a longer `drain_timeout`"),
            ("offer", "`kubernetes.version` of the node's `groundwork_machine`"),
            ("skew", "Set `version` to one that the node may have"),
            ("ready", "failed at ready"),
        ] {
            assert!(said(step, false).contains(words), "{}", said(step, false));
        }
        assert!(said("drain", true).contains("was stopped before its next change"), "{}", said("drain", true));
    }

    #[test]
    fn every_paragraph_is_a_sentence() {
        let said = agent("reach machine cp-1", &Error::NoAuthority).to_string();
        assert!(said.contains("The provider has no CA for its agents.\n\nNothing was asked"), "{said}");
    }
}
