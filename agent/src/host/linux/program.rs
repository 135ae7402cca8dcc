//! Running programs: as children, or as transient systemd units that outlive the agent.
//!
//! A unit's output goes to a file, not to a pipe: a pipe would break with the agent and kill what writes into it. The next run
//! finds a unit left behind by its name and waits for it (`settle`).

use crate::host::{Command, HostError, Lines, Output};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command as Process};
use tokio::time::{Instant, sleep, timeout};

pub(super) async fn run(command: &Command, lines: Lines<'_>) -> Result<Output, HostError> {
    match &command.unit {
        Some(unit) => run_unit(command, unit, lines).await,
        None => run_child(command, lines).await,
    }
}

async fn run_child(command: &Command, lines: Lines<'_>) -> Result<Output, HostError> {
    let mut child = start(command, Stdio::piped())?;
    let run = async {
        let stdin = feed(&mut child, command.stdin.as_deref());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // All at once: a program that fills one pipe while we wait on another would hang.
        let (_, stdout, stderr) = tokio::join!(stdin, collect(stdout, lines), collect(stderr, lines));
        let status = child.wait().await?;
        Ok(Output { code: status.code(), stdout: stdout?, stderr: stderr? })
    };
    match timeout(command.timeout, run).await {
        Ok(output) => output.map_err(spawn_error(command)),
        Err(_) => Err(timed_out(command)),
    }
}

fn start(command: &Command, output: Stdio) -> Result<Child, HostError> {
    let mut process = Process::new(&command.program);
    process.args(&command.args).env_clear().envs(ENVIRONMENT).envs(command.env.iter().map(|(k, v)| (k, v)));
    process.stdin(if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    process.stdout(output).stderr(Stdio::piped()).current_dir("/").kill_on_drop(true);
    process.spawn().map_err(spawn_error(command))
}

fn feed(child: &mut Child, text: Option<&[u8]>) -> impl Future<Output = io::Result<()>> + use<> {
    let stdin = child.stdin.take();
    let text = text.unwrap_or_default().to_owned();
    async move {
        let Some(mut stdin) = stdin else { return Ok(()) };
        stdin.write_all(&text).await
    }
}

async fn collect(pipe: Option<impl tokio::io::AsyncRead + Unpin>, lines: Lines<'_>) -> io::Result<String> {
    let mut all = String::new();
    let Some(pipe) = pipe else { return Ok(all) };
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while pipe.read_until(b'\n', &mut line).await? > 0 {
        let text = String::from_utf8_lossy(&line);
        lines(text.trim_end());
        all.push_str(&text);
        line.clear();
    }
    Ok(all)
}

async fn run_unit(command: &Command, name: &str, lines: Lines<'_>) -> Result<Output, HostError> {
    wait_for(name, lines).await?;
    let log = format!("{LOGS}/{name}.log");
    let fresh = || -> io::Result<()> {
        std::fs::create_dir_all(LOGS)?;
        std::fs::File::create(&log).map(drop)
    };
    fresh().map_err(spawn_error(command))?;
    let mut child = start(&as_unit(command, name, &log), Stdio::null())?;
    let mut follower = Follower { log: log.clone(), at: 0, part: Vec::new() };
    let end = Instant::now() + command.timeout;
    let status = loop {
        follower.pass_on(lines).await.map_err(spawn_error(command))?;
        if Instant::now() > end {
            stop(name).await?;
            return Err(timed_out(command));
        }
        // `wait` is cancel-safe: the child stays ours when the time is up.
        if let Ok(status) = timeout(LOOK, child.wait()).await {
            break status.map_err(spawn_error(command))?;
        }
    };
    follower.pass_on(lines).await.map_err(spawn_error(command))?;
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut said).await.map_err(spawn_error(command))?;
    }
    finished(command, &log, status, said)
}

/// systemd-run's own complaints come on its standard error; the program's output is in the log.
fn finished(command: &Command, log: &str, status: ExitStatus, said: String) -> Result<Output, HostError> {
    let printed = std::fs::read(log).map_err(spawn_error(command))?;
    let stdout = String::from_utf8_lossy(&printed).into_owned();
    std::fs::remove_file(log).map_err(spawn_error(command))?;
    Ok(Output { code: status.code(), stdout, stderr: said })
}

fn as_unit(command: &Command, name: &str, log: &str) -> Command {
    let mut args = vec![
        format!("--unit={PREFIX}{name}"),
        "--collect".into(),
        "--wait".into(),
        "--quiet".into(),
        "--service-type=exec".into(),
        "--expand-environment=no".into(),
        format!("--property=StandardOutput=append:{log}"),
        format!("--property=StandardError=append:{log}"),
        "--property=KillMode=mixed".into(),
    ];
    // systemd before 254 neither expands nor knows the option.
    if !expands() {
        args.retain(|arg| arg != "--expand-environment=no");
    }
    let environment = ENVIRONMENT.iter().map(|(k, v)| format!("--setenv={k}={v}"));
    args.extend(environment.chain(command.env.iter().map(|(k, v)| format!("--setenv={k}={v}"))));
    args.extend(["--".to_owned(), command.program.clone()]);
    args.extend(command.args.iter().cloned());
    Command { env: Vec::new(), unit: None, ..Command::new(SYSTEMD_RUN, args) }
}

/// Whether this systemd has learnt to expand variables on systemd-run's command line (254).
fn expands() -> bool {
    let version = |name: &str| name.strip_prefix("libsystemd-shared-")?.split(['.', '-', '~']).next()?.parse().ok();
    let names = std::fs::read_dir("/usr/lib/x86_64-linux-gnu/systemd")
        .or_else(|_| std::fs::read_dir("/usr/lib/aarch64-linux-gnu/systemd"))
        .or_else(|_| std::fs::read_dir("/usr/lib/systemd"));
    let Ok(names) = names else { return false };
    names.flatten().filter_map(|entry| version(&entry.file_name().to_string_lossy())).any(|number: u32| number >= 254)
}

/// Reads on in a log that somebody else writes.
struct Follower {
    log: String,
    at: u64,
    part: Vec<u8>,
}

impl Follower {
    async fn pass_on(&mut self, lines: Lines<'_>) -> io::Result<()> {
        let mut file = tokio::fs::File::open(&self.log).await?;
        file.seek(io::SeekFrom::Start(self.at)).await?;
        let read = file.read_to_end(&mut self.part).await?;
        self.at += u64::try_from(read).unwrap_or(0);
        while let Some(end) = self.part.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.part.drain(..=end).collect();
            lines(String::from_utf8_lossy(&line).trim_end());
        }
        Ok(())
    }
}

/// Waits for every unit of ours that is still running.
pub(super) async fn settle(lines: Lines<'_>) -> Result<(), HostError> {
    if !std::path::Path::new("/run/systemd/system").exists() {
        return Ok(());
    }
    let pattern = format!("{PREFIX}*.service");
    let list = Command::new(SYSTEMCTL, ["list-units", "--plain", "--no-legend", "--all", "--full", &pattern]);
    for line in run_child(&list, &|_| ()).await?.stdout.lines() {
        let unit = line.split_whitespace().next().unwrap_or_default();
        if let Some(name) = unit.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".service")) {
            wait_for(name, lines).await?;
        }
    }
    Ok(())
}

async fn wait_for(name: &str, lines: Lines<'_>) -> Result<(), HostError> {
    let ask = Command::new(SYSTEMCTL, ["is-active", &format!("{PREFIX}{name}.service")]);
    let mut told = false;
    let end = Instant::now() + LONGEST;
    loop {
        let state = run_child(&ask, &|_| ()).await?.stdout;
        if !matches!(state.trim(), "active" | "activating" | "deactivating" | "reloading") {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(HostError::TimedOut { command: format!("{PREFIX}{name}"), after_s: LONGEST.as_secs() });
        }
        if !told {
            lines(&format!("waiting for {name}, which was started before the agent was restarted"));
            told = true;
        }
        sleep(LOOK * 2).await;
    }
}

async fn stop(name: &str) -> Result<(), HostError> {
    run_child(&Command::new(SYSTEMCTL, ["stop", &format!("{PREFIX}{name}.service")]), &|_| ()).await.map(drop)
}

fn spawn_error(command: &Command) -> impl FnOnce(io::Error) -> HostError + use<> {
    let program = command.program.clone();
    move |source| HostError::Spawn { program, source }
}

fn timed_out(command: &Command) -> HostError {
    HostError::TimedOut { command: command.to_string(), after_s: command.timeout.as_secs() }
}

const SYSTEMD_RUN: &str = "/usr/bin/systemd-run";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const PREFIX: &str = "groundwork-op-";
const LOGS: &str = "/var/lib/groundwork/operations";
/// How often a running unit is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Nothing of ours lives longer.
const LONGEST: Duration = Duration::from_secs(3600);
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C.UTF-8")];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_gets_its_input_and_both_outputs_are_kept() {
        let command = Command::new("/bin/sh", ["-c", "cat; echo wrong >&2; exit 3"]).stdin("a\nb\n");
        let seen = std::sync::Mutex::new(Vec::new());
        let output = run(&command, &|line| seen.lock().unwrap().push(line.to_owned())).await.unwrap();
        assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(3), "a\nb\n", "wrong\n"));
        let mut seen = seen.into_inner().unwrap();
        seen.sort();
        assert_eq!(seen, ["a", "b", "wrong"]);
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended() {
        let command = Command::new("/bin/sleep", ["60"]).timeout(Duration::from_millis(50));
        assert!(matches!(run(&command, &|_| ()).await, Err(HostError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn a_missing_program_is_named() {
        let error = run(&Command::new("/no/such", [""; 0]), &|_| ()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot run /no/such");
    }

    #[test]
    fn a_unit_is_started_with_its_name_and_its_log() {
        let command = Command::new("/usr/bin/apt-get", ["update"]).env("A", "b").unit("apt");
        let unit = as_unit(&command, "apt", "/log");
        assert_eq!(unit.program, SYSTEMD_RUN);
        assert!(unit.args.contains(&"--unit=groundwork-op-apt".to_owned()), "{:?}", unit.args);
        assert!(unit.args.contains(&"--setenv=A=b".to_owned()), "{:?}", unit.args);
        assert!(unit.args.ends_with(&["--".into(), "/usr/bin/apt-get".into(), "update".into()]), "{:?}", unit.args);
    }
}
