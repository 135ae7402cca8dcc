//! Work that takes its time: an agent runs it by itself and tells its story; the provider follows, through lost connections.
//!
//! Every job may be repeated: an agent does only what is missing. So when a connection breaks, the provider looks for the run
//! and, if the agent lost it too (it was restarted), starts again. Terraform's stop asks the agent to end the run before its
//! next change; nothing is cut in the middle.

use super::call::Agent;
use super::job::{Job, seconds};
use super::line::{Client, Events};
use super::snapshots::SnapshotSchedule;
use super::until::Until;
use super::{Agents, Endpoint, Error, RunFailure, Wait};
use agent_proto::v1::{self as wire, event::What};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;
use trust::Role;

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) run_id: String,
    pub(crate) changes: u32,
    pub(crate) reboot_needed: bool,
    /// What a person should know although all went well.
    pub(crate) warnings: Vec<String>,
}

impl Agents {
    /// Has the agent do `job` and waits for its end.
    pub(crate) async fn run(&self, endpoint: &Endpoint, job: &Job, wait: &Wait<'_>) -> Result<Report, Error> {
        let patience = Instant::now() + PATIENCE;
        let mut lost = 0;
        loop {
            let error = match self.once(endpoint, job, wait).await {
                Ok(Ended::Done(report)) => return Ok(report),
                Ok(Ended::Lost) if lost < 3 => {
                    lost += 1;
                    continue;
                }
                Ok(Ended::Lost) => lost_again(endpoint),
                Err(error) => error,
            };
            match error {
                Error::Busy { run_id, .. } => self.wait_for_other(endpoint, &run_id, wait).await?,
                error @ (Error::Unreachable { .. } | Error::Closed { .. }) if Instant::now() < patience => {
                    wait.pause(PAUSE, "the agent to answer", error).await?;
                }
                error => return Err(error),
            }
        }
    }

    async fn once(&self, endpoint: &Endpoint, job: &Job, wait: &Wait<'_>) -> Result<Ended, Error> {
        if wait.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.as_new_as_us(endpoint, job, wait).await?;
        let mut agent = self.connect(endpoint, job.role(), &wait.until()).await?;
        if wait.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        let events = agent.start(job).await?;
        self.follow(endpoint, (job.role(), Whose::Ours), events, wait).await
    }

    /// Lets whatever an agent is at come to its end. How it ends is not our business.
    pub(crate) async fn settled(&self, endpoint: &Endpoint, wait: &Wait<'_>) -> Result<(), Error> {
        let run_id = self.connect(endpoint, Role::Operator, &wait.until()).await?.describe().await?.run_id;
        if run_id.is_empty() { Ok(()) } else { self.wait_for_other(endpoint, &run_id, wait).await }
    }

    /// Lets a run of somebody else come to its end, such as one whose provider was killed. How it ends is not our business.
    async fn wait_for_other(&self, endpoint: &Endpoint, run_id: &str, wait: &Wait<'_>) -> Result<(), Error> {
        (wait.progress)(&format!("{}: waiting for run {run_id}, which is in progress", endpoint.address));
        let mut agent = self.connect(endpoint, Role::Operator, &wait.until()).await?;
        let Some(events) = agent.0.attach(run_id).await? else { return Ok(()) };
        match self.follow(endpoint, (Role::Operator, Whose::Others), events, wait).await {
            Ok(_) | Err(Error::Run { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads events until the run ends, attaching again when the connection breaks. Only a run of ours is ever cancelled.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        (role, whose): (Role, Whose),
        mut events: Events,
        wait: &Wait<'_>,
    ) -> Result<Ended, Error> {
        let mut run = Follower::new(&endpoint.address, wait.deadline);
        let mut cancelling = false;
        loop {
            // The first event of a run tells its id.
            if cancelling && !run.run_id.is_empty() {
                self.cancel(endpoint, role, &run.run_id).await;
                cancelling = false;
            }
            match run.next(&mut events, wait).await {
                Next::Event(event) => {
                    if let Some(ended) = run.take(event, wait.progress) {
                        return ended;
                    }
                }
                Next::Stop if whose == Whose::Others => return Err(Error::Stopped),
                Next::Stop => {
                    run.stop_by = Some(Instant::now() + STOPPING);
                    cancelling = true;
                }
                Next::Late => {
                    if whose == Whose::Ours {
                        self.cancel(endpoint, role, &run.run_id).await;
                    }
                    return Err(Error::Deadline { what: format!("run {} on {}", run.run_id, run.address), last: None });
                }
                Next::Broken(status) => {
                    let Some(again) = self.attach_again(endpoint, role, &mut run, (wait, &status)).await? else {
                        return Ok(Ended::Lost);
                    };
                    events = again;
                }
            }
        }
    }

    /// Connects until the agent answers; `None` if it does not know the run any more. One that stays away for longer than any machine
    /// takes to restart is not waited for until the deadline, which may be hours from now.
    async fn attach_again(
        &self,
        endpoint: &Endpoint,
        role: Role,
        run: &mut Follower,
        (wait, broken): (&Wait<'_>, &Status),
    ) -> Result<Option<Events>, Error> {
        run.seen = 0;
        let mut silence = Silence::begin(&run.address, &run.run_id);
        let mut last = Error::Unreachable { address: run.address.clone(), why: broken.message().to_owned() };
        loop {
            silence.goes_on(wait.progress)?;
            wait.pause(PAUSE, "the agent to answer again", last).await?;
            last = match self.connect_once(endpoint, role, &wait.until()).await {
                Err(error) if error.may_pass() || error.is_unreachable() => error,
                Err(error) => return Err(error),
                Ok(mut agent) => match agent.0.attach(&run.run_id).await {
                    Err(error) if error.is_unreachable() => error,
                    other => return other,
                },
            };
        }
    }

    /// Asks the agent to end a run before its next change. If it does not hear, the run goes on and is found next time.
    async fn cancel(&self, endpoint: &Endpoint, role: Role, run_id: &str) {
        let request = wire::CancelRequest { run_id: run_id.to_owned() };
        let asking = async {
            let Agent(mut line) = self.connect(endpoint, role, &Until::grace()).await?;
            line.ask("Cancel", |mut client| async move { client.cancel(request).await }).await
        };
        if let Err(error) = asking.await {
            tracing::warn!(run_id, error = %error, "the run could not be cancelled");
        }
    }
}

impl Agent {
    #[expect(clippy::too_many_lines, reason = "one arm for each job")]
    pub(super) async fn start(&mut self, job: &Job) -> Result<Events, Error> {
        let Self(line) = self;
        match job {
            Job::Apply(spec) => {
                let request = wire::ApplyRequest { spec: Some((**spec).clone()) };
                line.events("Apply", |mut client| async move { client.apply(request).await }).await
            }
            Job::Init(init) => {
                let request = init.to_wire();
                line.events("ClusterInit", |mut client| async move { client.cluster_init(request).await }).await
            }
            Job::Join(join) => {
                let request = join.to_wire();
                line.events("ClusterJoin", |mut client| async move { client.cluster_join(request).await }).await
            }
            Job::Reset { cluster_id } => {
                let request = wire::ClusterResetRequest { cluster_id: cluster_id.clone() };
                line.events("ClusterReset", |mut client| async move { client.cluster_reset(request).await }).await
            }
            Job::Upgrade(upgrade) => {
                let request = upgrade.to_wire();
                line.events("ClusterUpgrade", |mut client| async move { client.cluster_upgrade(request).await }).await
            }
            Job::Configure(configure) => {
                let request = configure.to_wire();
                line.events("ClusterConfigure", |mut client| async move { client.cluster_configure(request).await })
                    .await
            }
            Job::NodeSet(settings) => {
                let request = settings.to_wire();
                line.events("NodeSet", |mut client| async move { client.node_set(request).await }).await
            }
            Job::NodeRemove { node_name, drain } => {
                let request = wire::NodeRemoveRequest {
                    node_name: node_name.clone(),
                    drain_timeout_s: drain.map_or(0, seconds),
                    unreachable: drain.is_none(),
                };
                line.events("NodeRemove", |mut client| async move { client.node_remove(request).await }).await
            }
            Job::ManifestApply(manifest) => {
                let request = manifest.to_wire();
                line.events("ManifestApply", |mut client| async move { client.manifest_apply(request).await }).await
            }
            Job::ManifestRemove(removal) => {
                let request = removal.to_wire();
                line.events("ManifestRemove", |mut client| async move { client.manifest_remove(request).await }).await
            }
            Job::SnapshotTake { cluster_id, path } => {
                let request = wire::EtcdSnapshotTakeRequest { cluster_id: cluster_id.clone(), path: path.clone() };
                line.events("EtcdSnapshotTake", |mut client| async move { client.etcd_snapshot_take(request).await })
                    .await
            }
            Job::SnapshotSchedule { cluster_id, schedule, secret } => {
                let request = wire::EtcdSnapshotScheduleRequest {
                    cluster_id: cluster_id.clone(),
                    snapshots: schedule.as_ref().map(SnapshotSchedule::to_wire),
                    s3_secret_access_key: secret.expose().clone(),
                };
                let ask = |mut client: Client| async move { client.etcd_snapshot_schedule(request).await };
                line.events("EtcdSnapshotSchedule", ask).await
            }
            Job::CertificatesRenew { cluster_id, node_name, within } => {
                let (cluster_id, node_name) = (cluster_id.clone(), node_name.clone());
                let request = wire::CertificatesRenewRequest { cluster_id, node_name, within_s: within.as_secs() };
                line.events("CertificatesRenew", |mut client| async move { client.certificates_renew(request).await })
                    .await
            }
            Job::QuorumRecover { cluster_id, incident, stand_down } => {
                let (cluster_id, incident) = (cluster_id.clone(), incident.clone());
                let request = wire::QuorumRecoverRequest { cluster_id, incident, stand_down: *stand_down };
                line.events("QuorumRecover", |mut client| async move { client.quorum_recover(request).await }).await
            }
            Job::Leave { drain } => {
                let request = wire::ClusterLeaveRequest { drain_timeout_s: seconds(*drain) };
                line.events("ClusterLeave", |mut client| async move { client.cluster_leave(request).await }).await
            }
        }
    }
}

/// Who asked for a run that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    /// Another provider, which may wait for it still.
    Others,
}

enum Ended {
    Done(Report),
    /// The agent was restarted and knows nothing of the run.
    Lost,
}

/// What comes next while a run is followed.
enum Next {
    Event(wire::Event),
    /// Terraform wants to stop; said once.
    Stop,
    /// The deadline has passed.
    Late,
    /// The connection is gone.
    Broken(Status),
}

/// What is known of the run being followed.
struct Follower {
    address: String,
    run_id: String,
    /// Events of this stream so far; a new stream begins from the first again.
    seen: usize,
    /// Events already told to the user.
    told: usize,
    deadline: Instant,
    /// Set when the agent was asked to stop: until when it may take to do so.
    stop_by: Option<Instant>,
    warnings: Vec<String>,
}

impl Follower {
    fn new(address: &str, deadline: Instant) -> Self {
        Self {
            address: address.to_owned(),
            run_id: String::new(),
            seen: 0,
            told: 0,
            deadline,
            stop_by: None,
            warnings: Vec::new(),
        }
    }

    async fn next(&self, events: &mut Events, wait: &Wait<'_>) -> Next {
        let late = self.stop_by.unwrap_or(self.deadline);
        let mut stopped = false;
        let over = async {
            // Both arms are cancel-safe: a token and a timer.
            tokio::select! {
                () = wait.stop.cancelled(), if self.stop_by.is_none() => stopped = true,
                () = tokio::time::sleep_until(late) => {}
            }
        };
        match events.next(over).await {
            Some(Ok(event)) => Next::Event(event),
            Some(Err(status)) => Next::Broken(status),
            None if stopped => Next::Stop,
            None => Next::Late,
        }
    }

    fn take(&mut self, event: wire::Event, progress: &(dyn Fn(&str) + Send + Sync)) -> Option<Result<Ended, Error>> {
        self.run_id.clone_from(&event.run_id);
        self.seen += 1;
        if self.seen > self.told {
            self.told = self.seen;
            if let Some(line) = event.what.as_ref().and_then(line) {
                progress(&format!("{}: {line}", self.address));
            }
            if let Some(What::Note(wire::Note { line, warning: true, .. })) = &event.what
                && self.warnings.len() < WARNINGS
            {
                self.warnings.push(line.clone());
            }
        }
        match event.what? {
            What::Finished(end) => Some(Ok(Ended::Done(Report {
                run_id: event.run_id,
                changes: end.changes,
                reboot_needed: end.reboot_needed,
                warnings: std::mem::take(&mut self.warnings),
            }))),
            What::Failed(failed) if failed.cancelled && self.stop_by.is_some() => Some(Err(Error::Stopped)),
            What::Failed(failed) => Some(Err(self.failure(failed))),
            What::Began(_)
            | What::StepBegan(_)
            | What::ChangeMade(_)
            | What::Output(_)
            | What::Skipped(_)
            | What::Note(_) => None,
        }
    }

    fn failure(&self, failed: wire::RunFailed) -> Error {
        let wire::RunFailed { step, change, message, output, cancelled } = failed;
        let failure = RunFailure { run_id: self.run_id.clone(), step, change, message, output, cancelled };
        Error::Run { address: self.address.clone(), failure: Box::new(failure) }
    }
}

/// An agent that gives no answer in the middle of a run.
struct Silence<'a> {
    address: &'a str,
    run_id: &'a str,
    since: Instant,
    /// When the user is told of it next.
    tell: Instant,
}

impl<'a> Silence<'a> {
    fn begin(address: &'a str, run_id: &'a str) -> Self {
        let since = Instant::now();
        Self { address, run_id, since, tell: since + TELL }
    }

    /// Tells now and then for how long it has lasted; an error once that is too long.
    fn goes_on(&mut self, progress: &(dyn Fn(&str) + Send + Sync)) -> Result<(), Error> {
        let Self { address, run_id, since, .. } = *self;
        if since.elapsed() >= AWAY {
            return Err(Error::Away {
                address: address.to_owned(),
                run_id: run_id.to_owned(),
                minutes: AWAY.as_secs() / 60,
            });
        }
        if Instant::now() >= self.tell {
            self.tell += TELL;
            progress(&format!(
                "{address}: has not answered for {} s, in the middle of run {run_id}",
                since.elapsed().as_secs()
            ));
        }
        Ok(())
    }
}

/// What a user sees of an event while waiting; output of programs is for the log.
fn line(what: &What) -> Option<String> {
    match what {
        What::Began(began) => Some(format!("{} began", began.kind)),
        What::StepBegan(_) => None,
        What::ChangeMade(made) => Some(format!("{}: {}", made.step, made.summary)),
        What::Output(output) => {
            tracing::debug!(step = output.step, line = output.line, "output");
            None
        }
        What::Note(note) => Some(format!("{}: {}", note.step, note.line)),
        What::Skipped(skipped) => Some(format!("{}: left out: {}", skipped.step, skipped.reason)),
        What::Finished(end) => Some(format!("done, {} changes", end.changes)),
        What::Failed(failed) => Some(format!("{} failed", failed.step)),
    }
}

fn lost_again(endpoint: &Endpoint) -> Error {
    let why = "the agent was restarted again and again during the run".to_owned();
    Error::Unreachable { address: endpoint.address.clone(), why }
}

/// Each becomes a diagnostic; all of them stand in the run's story.
const WARNINGS: usize = 50;
const PAUSE: Duration = Duration::from_secs(1);
/// How long an agent may be away before a job has begun: a machine that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an agent may be away in the middle of a run: servers that take their time to restart are back by then.
const AWAY: Duration = Duration::from_secs(600);
/// Between two lines about an agent that is away.
const TELL: Duration = Duration::from_secs(30);
/// How long a run may take to its next change after Terraform was told to stop.
const STOPPING: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_vanishes_in_a_run_is_told_of_and_given_up_in_time() {
        let said = Mutex::new(Vec::new());
        let progress = |line: &str| said.lock().unwrap().push(line.to_owned());
        let (began, mut silence) = (Instant::now(), Silence::begin("192.0.2.11:7443", "r7"));
        let error = loop {
            match silence.goes_on(&progress) {
                Ok(()) => tokio::time::sleep(PAUSE).await,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Away { minutes: 10, .. }) && error.is_unreachable(), "{error}");
        assert_eq!(began.elapsed(), AWAY);
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 19);
        assert_eq!(said[0], "192.0.2.11:7443: has not answered for 30 s, in the middle of run r7");
    }
}
