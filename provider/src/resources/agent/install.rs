//! The agent is brought onto a machine: look, refuse what cannot be, stage the files of a seed, run the seed's own script, enrol. By which
//! way is `way`'s.
//!
//! Each step looks before it acts, and nothing is recorded before the enrolment: whatever is cut off wherever, the next apply finds on the
//! machine what there is, and goes on. The files lie in a folder of root's below `/var/lib/groundwork` and not in `/tmp`, where others
//! write and programs may not run; an installation that comes to its end takes it away.

use super::look::{Look, Problem, SCRIPT};
use super::model::{Agent, GuestAgent, Ssh};
use super::way::{Progress, WayIn};
use crate::agents::{Endpoint, Error, PendingEnrolment, SeedFor, Until, Wait};
use crate::context::Cx;
use crate::endpoint::AgentEndpoint;
use crate::explain;
use crate::script::SURROUNDINGS;
use crate::seed::File;
use crate::timeouts::Limit;
use crate::{guest, ssh};
use aws_lc_rs::digest::{SHA256, digest};
use std::time::Duration;
use tf::{Diagnostic, Diagnostics};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trust::Role;

/// Brings the agent onto the machine of `m`, or finds it there, and fills in where it is. `verb` reads `install`.
pub(super) async fn install(cx: &Cx, m: &mut Agent, verb: &str, limit: Limit) -> Result<(), Diagnostics> {
    let act = format!("{verb} the agent of {}", m.name());
    cx.agents.can_install().map_err(|error| explain::agent(&act, &error))?;
    let work = Work { cx, m, act: &act, limit, deadline: cx.deadline(limit.time), stop: &cx.stop };
    let endpoint = match (m.ssh.get(), m.guest_agent.get()) {
        (Some(ssh), _) => work.by_ssh(ssh).await?,
        (None, Some(guest)) => work.by_guest_agent(guest).await?,
        (None, None) => return Err(Diagnostic::bug("no way into the machine is known at apply").into()),
    };
    let agent = cx.agents.connect(&endpoint, cx.agents.at_most(Role::Operator), &work.until()).await;
    let said = match agent {
        Ok(mut agent) => agent.describe().await,
        Err(error) => Err(error),
    };
    let facts = said.map_err(|error| explain::agent(&act, &error))?.facts;
    m.id.set(endpoint.fingerprint.clone());
    m.endpoint.set(AgentEndpoint::from(&endpoint));
    m.facts.set(facts);
    Ok(())
}

/// One installation.
struct Work<'a> {
    cx: &'a Cx,
    m: &'a Agent,
    act: &'a str,
    limit: Limit,
    deadline: Instant,
    stop: &'a CancellationToken,
}

impl Work<'_> {
    fn until(&self) -> Until {
        Until::new(self.deadline, self.stop)
    }

    async fn by_ssh(&self, ssh: &Ssh) -> Result<Endpoint, Diagnostics> {
        let progress = |line: &str| self.cx.progress(line);
        let place = self.m.place().ok_or_else(|| Diagnostic::bug("the agent's address is not known at apply"))?;
        let way = ssh.way();
        progress(&format!("{}: connecting by SSH", way.machine.place()));
        let limits = ssh::Limits { deadline: self.deadline, stop: self.stop.clone() };
        let failed = |error: ssh::Error| ssh::Session::told(self.act, &error, UNCHANGED);
        let mut session = ssh::connect(&way, &limits, &progress).await.map_err(failed)?;
        session.become_root().await.map_err(failed)?;
        self.through(&session, &[place]).await
    }

    async fn by_guest_agent(&self, guest: &GuestAgent) -> Result<Endpoint, Diagnostics> {
        let progress = |line: &str| self.cx.progress(line);
        let way = guest.way().ok_or_else(|| Diagnostic::bug("the VM is not known at apply"))?;
        progress(&format!("VM {}: asking its guest agent", way.vmid));
        let limits = guest::Limits { deadline: self.deadline, stop: self.stop.clone() };
        let failed = |error: guest::Error| guest::Session::told(self.act, &error, UNCHANGED);
        let session = guest::connect(self.cx.pve()?, &way, &limits, &progress).await.map_err(failed)?;
        let places = match self.m.place() {
            Some(place) => vec![place],
            None => self.m.places(session.addresses().await.map_err(failed)?),
        };
        if places.is_empty() {
            return Err(Diagnostic::error(format!("Cannot {}", self.act))
                .happened(
                    "The guest agent knows of no address of the VM's own cards, and the configuration gives none.",
                )
                .holds(UNCHANGED)
                .next("Give the machine an address, or set `address` to where its agent will be reached from here.")
                .at("address")
                .into());
        }
        self.through(&session, &places).await
    }

    /// Does all of it. `places` is where the agent may be reached.
    async fn through<W: WayIn>(&self, way: &W, places: &[String]) -> Result<Endpoint, Diagnostics> {
        let progress = |line: &str| self.cx.progress(line);
        for _ in 0..TRIES {
            let failed = |error: W::Error| W::told(self.act, &error, UNCHANGED);
            let script = format!("{SURROUNDINGS}{ALONE}{SCRIPT}");
            let look = Look::parse(&way.script("looking at the machine", &script, LOOK).await.map_err(failed)?);
            let (files, pending) = self.wanted(&look)?;
            self.refuse_what_cannot_be(&look, &files)?;
            if let Some(endpoint) = self.found(&look, &files, places).await? {
                progress(&format!("{}: an agent of this CA is there already", way.place()));
                return Ok(endpoint);
            }
            let failed = |error: W::Error| W::told(self.act, &error, BEGUN);
            stage(way, &look, &files, &progress).await.map_err(failed)?;
            progress(&format!("{}: installing the agent", way.place()));
            let done = way.script("installing the agent", &installation(&files), LOOK).await.map_err(failed)?;
            if done.trim() != GONE {
                return self.enrolled(way, &pending, places).await;
            }
        }
        Err(Diagnostic::error(format!("Cannot {}", self.act))
            .happened(format!("Another installation took away what this one had sent to the machine, {TRIES} times."))
            .holds(BEGUN)
            .next("Let one apply at a time install the agent of a machine, and apply again.")
            .into())
    }

    /// The files of a seed for this machine, with a secret that is newer than any it had.
    fn wanted(&self, look: &Look) -> Result<(Vec<File>, PendingEnrolment), Diagnostics> {
        // What is not right with the machine itself is said before that there is no agent for it.
        if let Some(problem) = look.problem(0) {
            return Err(self.refused(problem).into());
        }
        let allow_from = self.m.allow_from.or(Vec::new());
        let wanted = SeedFor {
            machine_uuid: &look.machine_uuid(),
            generation: look.generation + 1,
            port: self.m.listens_on(),
            allow_from: &allow_from,
            machine: Some(&look.machine),
        };
        let (part, pending) = self.cx.agents.seed(&wanted).map_err(|error| explain::agent(self.act, &error))?;
        Ok((part.files, pending))
    }

    fn refuse_what_cannot_be(&self, look: &Look, files: &[File]) -> Result<(), Diagnostics> {
        let size = files.iter().map(|file| file.bytes.len()).sum();
        if let Some(problem) = look.problem(size) {
            return Err(self.refused(problem).into());
        }
        let Some(theirs) = &look.ca else { return Ok(()) };
        let theirs = self.cx.agents.compare_authorities(theirs).map_err(|error| explain::agent(self.act, &error))?;
        let Some(theirs) = theirs else { return Ok(()) };
        let active = if look.active == "active" { "it runs" } else { "it does not run" };
        let found = format!(
            "An agent of somebody else is on the machine: it believes {theirs}, and none of the CAs of this provider; {active}, and is {}.",
            look.enrolled.as_ref().map_or_else(|| "not enrolled".to_owned(), |uuid| format!("enrolled as {uuid}"))
        );
        Err(Diagnostic::error(format!("Cannot {}", self.act))
            .happened(found)
            .holds(UNCHANGED)
            .next("Give the provider that CA, or another machine. If the machine is yours to take, remove its agent there: `systemctl disable --now groundwork-agent && rm -rf /usr/local/bin/groundwork-agent /etc/groundwork /var/lib/groundwork`.")
            .into())
    }

    fn refused(&self, problem: Problem) -> Diagnostic {
        let Problem { said, cure } = problem;
        Diagnostic::error(format!("Cannot {}", self.act)).happened(said).holds(UNCHANGED).next(cure)
    }

    /// The agent that is there, if it is ours, as it should be, and answers.
    async fn found(&self, look: &Look, files: &[File], places: &[String]) -> Result<Option<Endpoint>, Diagnostics> {
        let Some(uuid) = look.enrolled.as_ref().filter(|_| look.active == "active") else { return Ok(None) };
        let config = files.iter().find(|file| name(file) == "agent.toml").map(|file| sum(&file.bytes));
        if config.as_ref() != Some(&look.config_sum) {
            return Ok(None);
        }
        let mut elsewhere = None;
        for place in places {
            match self.cx.agents.identify(place, uuid, &self.until()).await {
                Ok(endpoint) => return Ok(Some(endpoint)),
                Err(Error::OtherMachine { .. }) => elsewhere = Some(place),
                Err(error @ (Error::Stopped | Error::Deadline { .. })) => {
                    return Err(explain::agent(self.act, &error).into());
                }
                Err(_) => {}
            }
        }
        elsewhere.map_or(Ok(None), |place| Err(self.elsewhere(place).into()))
    }

    fn elsewhere(&self, place: &str) -> Diagnostic {
        Diagnostic::error(format!("Cannot {}", self.act))
            .happened(format!("The agent at {place} is that of another machine than the one that we came into."))
            .holds("Nothing was changed on either.")
            .next("Set `address` to where this machine's agent is reached from here.")
            .at("address")
    }

    async fn enrolled<W: WayIn>(
        &self,
        way: &W,
        pending: &PendingEnrolment,
        places: &[String],
    ) -> Result<Endpoint, Diagnostics> {
        let progress = |line: &str| self.cx.progress(line);
        let deadline = self.deadline.min(Instant::now() + START);
        let wait = Wait { deadline, stop: self.stop, progress: &progress };
        let error = match self.cx.agents.enrol(places, pending, &wait).await {
            Ok(endpoint) => return Ok(endpoint),
            Err(Error::OtherMachine { address, .. }) => return Err(self.elsewhere(&address).into()),
            Err(error) => error,
        };
        let told = explain::enrolment(self.act, &error, BEGUN, (&self.limit.name(), ""));
        if !error.is_unreachable() {
            return Err(told.into());
        }
        // The machine itself knows whether the agent is at fault or the way to it.
        let why = way.script("asking the machine about its agent", &within(WHY), LOOK).await.unwrap_or_default();
        let runs = why.lines().next() == Some("active");
        let said = tf::chain(&error);
        let diagnostic = Diagnostic::error(format!("Cannot {}", self.act));
        Err(if runs {
            diagnostic
                .happened(format!("The agent was installed and runs, and does not answer at {}: {said}.", places.join(", ")))
                .holds(BEGUN)
                .next("Open this TCP port between here and the machine, or set `address` to where it is reached from here, and apply again.")
        } else {
            let lines: Vec<String> = why.lines().map(str::to_owned).collect();
            diagnostic
                .happened(explain::listed(&format!("The agent was installed and does not run: {said}. The machine says:"), &lines))
                .holds(BEGUN)
                .next("Remove the cause, and apply again. `journalctl -u groundwork-agent` on the machine has the whole story.")
        }
        .into())
    }
}

/// Puts the files into the staging folder; what a cut installation has left there, or the machine has already, is not sent again.
async fn stage<W: WayIn>(way: &W, look: &Look, files: &[File], progress: Progress<'_>) -> Result<(), W::Error> {
    way.script("making a folder", &within(FOLDER), SHORT).await?;
    let missing = files.iter().filter(|file| look.staged.get(name(file)) != Some(&sum(&file.bytes)));
    let (large, small): (Vec<_>, Vec<_>) = missing.partition(|file| file.bytes.len() > SMALL);
    for some in [small, large] {
        for file in some.iter().filter(|file| sum(&file.bytes) != look.program_sum) {
            way.write(&format!("{STAGE}/{}.new", name(file)), &file.bytes, look, progress).await?;
        }
        if !some.is_empty() {
            way.script("checking what was sent", &checked(&some, look), LOOK).await?;
        }
    }
    Ok(())
}

/// The script that gives what was sent its name, if it is what was sent. A program that the machine has is copied.
fn checked(files: &[&File], look: &Look) -> String {
    let mut script = format!("umask 077\ncd {STAGE}\n");
    for file in files {
        let (name, sum) = (name(file), sum(&file.bytes));
        if sum == look.program_sum {
            script.push_str(&format!("cp {PROGRAM} {name}.new\n"));
        }
        script.push_str(&format!("echo \"{sum}  {name}.new\" | sha256sum -c - >/dev/null\nmv -f {name}.new {name}\n"));
    }
    within(&script)
}

/// The script that installs what was sent, or says that it is gone: an installation that was cut off goes on to its end on the machine.
fn installation(files: &[File]) -> String {
    let names: Vec<&str> = files.iter().map(name).collect();
    let names = names.join(" ");
    within(&format!(
        "for file in {names}; do\n  [ -f {STAGE}/$file ] || {{ echo {GONE}; exit 0; }}\ndone\nsh {STAGE}/install.sh >&2\nrm -rf {STAGE}\n"
    ))
}

/// A script in the surroundings that every way has, alone on the machine, which ends at the first failure.
fn within(script: &str) -> String {
    format!("set -eu\n{SURROUNDINGS}{ALONE}{script}")
}

fn name(file: &File) -> &str {
    file.path.rsplit('/').next().unwrap_or_default()
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// A folder of root's.
const STAGE: &str = "/var/lib/groundwork/install";
const PROGRAM: &str = "/usr/local/bin/groundwork-agent";
const FOLDER: &str = "umask 077\nmkdir -p /var/lib/groundwork/install\nchmod 0700 /var/lib/groundwork/install\n";
/// What a script prints whose files another one took away.
const GONE: &str = "gone";
/// An installation meets at most one that was cut off before it.
const TRIES: u8 = 3;
/// One script at a time: one whose connection was cut goes on, and the next apply waits for its end.
const ALONE: &str =
    "if [ -d /var/lib/groundwork ] && command -v flock >/dev/null; then exec 9</var/lib/groundwork; flock 9; fi\n";
const WHY: &str = "systemctl is-active groundwork-agent.service || true\n\
    journalctl -u groundwork-agent.service -n 8 -o cat --no-pager 2>/dev/null || true\n";
const UNCHANGED: &str = "Nothing was changed on the machine.";
const BEGUN: &str = "What was installed until then stays on the machine. Nothing is recorded in the state: the next apply goes on with it.";
/// What is sent in no time.
const SMALL: usize = 32 << 10;
const SHORT: Duration = Duration::from_secs(30);
/// What looks and installs takes a second, and on a slow machine some.
const LOOK: Duration = Duration::from_secs(120);
/// An agent answers within a second of its start.
const START: Duration = Duration::from_secs(60);
