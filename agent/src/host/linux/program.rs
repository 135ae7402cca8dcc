//! Running programs: as children, or as transient systemd units that outlive the agent.
//!
//! A unit's output goes to a file, not to a pipe: a pipe would break with the agent and kill what writes into it. The next run
//! finds a unit left behind by its name and waits for it (`settle`).
//!
//! No program's output may fill the memory. What a child says is an answer: it is taken in whole, or it is an error. What a unit
//! says is a report of its work: the end of it is kept.

use crate::host::{Command, HostError, Lines, Output};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
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
        let (_, stdout, stderr) = tokio::try_join!(stdin, collect(stdout, lines), collect(stderr, lines))?;
        let status = child.wait().await?;
        Ok(Output { code: status.code(), stdout, stderr })
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
        // A program need not read its input: what it thinks of it is said by its exit.
        drop(stdin.write_all(&text).await);
        Ok(())
    }
}

/// All that a program prints, told line by line as it comes.
async fn collect(pipe: Option<impl AsyncRead + Unpin>, lines: Lines<'_>) -> io::Result<String> {
    let mut all = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(String::new()) };
    let mut cutter = Cutter::default();
    loop {
        let known = all.len();
        if pipe.read_buf(&mut all).await? == 0 {
            break;
        }
        if all.len() > ANSWER {
            return Err(io::Error::other(format!("it printed more than {} MiB, which is not taken in", ANSWER >> 20)));
        }
        cutter.pass_on(all.get(known..).unwrap_or_default(), lines);
    }
    cutter.end(lines);
    Ok(String::from_utf8(all).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Cuts what a program prints into lines, and keeps only the beginning of a long one.
#[derive(Default)]
struct Cutter(Vec<u8>);

impl Cutter {
    fn pass_on(&mut self, printed: &[u8], lines: Lines<'_>) {
        for part in printed.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE.saturating_sub(self.0.len());
            self.0.extend(part.iter().take(room));
            if part.ends_with(b"\n") {
                self.end(lines);
            }
        }
    }

    /// The line ends, if one has begun.
    fn end(&mut self, lines: Lines<'_>) {
        if !self.0.is_empty() {
            lines(String::from_utf8_lossy(&self.0).trim_end());
            self.0.clear();
        }
    }
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
    let mut follower = Follower { log: log.clone(), at: 0, cutter: Cutter::default() };
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
    follower.cutter.end(lines);
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_string(&mut said).await.map_err(spawn_error(command))?;
    }
    finished(command, &log, status, said)
}

/// systemd-run's own complaints come on its standard error; the program's output is in the log.
fn finished(command: &Command, log: &str, status: ExitStatus, said: String) -> Result<Output, HostError> {
    let stdout = tail(log).map_err(spawn_error(command))?;
    std::fs::remove_file(log).map_err(spawn_error(command))?;
    // systemd-run's own word for a program that a signal has ended. Source: systemd-run(1), exit status; its EXIT_EXCEPTION.
    let code = status.code().filter(|code| *code != 255 || !said.trim().is_empty());
    Ok(Output { code, stdout, stderr: said })
}

/// The last lines of a log.
fn tail(log: &str) -> io::Result<String> {
    let mut file = std::fs::File::open(log)?;
    let before = file.metadata()?.len().saturating_sub(REPORT);
    file.seek(SeekFrom::Start(before))?;
    let mut printed = Vec::new();
    // It may still grow: what a unit has started can outlive it.
    file.take(REPORT).read_to_end(&mut printed)?;
    let cut = printed.iter().position(|byte| *byte == b'\n').filter(|_| before > 0).map_or(0, |end| end + 1);
    Ok(String::from_utf8_lossy(printed.get(cut..).unwrap_or_default()).into_owned())
}

fn as_unit(command: &Command, name: &str, log: &str) -> Command {
    let mut args = vec![
        format!("--unit={PREFIX}{name}"),
        "--collect".into(),
        "--wait".into(),
        "--quiet".into(),
        "--service-type=exec".into(),
        format!("--property=StandardOutput=append:{log}"),
        format!("--property=StandardError=append:{log}"),
        "--property=KillMode=mixed".into(),
    ];
    let environment = ENVIRONMENT.iter().map(|(k, v)| format!("--setenv={k}={v}"));
    args.extend(environment.chain(command.env.iter().map(|(k, v)| format!("--setenv={k}={v}"))));
    args.extend(["--".to_owned(), command.program.clone()]);
    args.extend(command.args.iter().map(|arg| literal(arg)));
    Command { env: Vec::new(), unit: None, ..Command::new(SYSTEMD_RUN, args) }
}

/// An argument that PID 1 passes on as it is: it puts variables into the arguments of every service, those of systemd-run too. A
/// doubled `$` is one `$` in every version; the option that turns this off is known only from 254 on. Source: systemd.service(5),
/// "Command lines".
fn literal(arg: &str) -> String {
    arg.replace('$', "$$")
}

/// Reads on in a log that somebody else writes.
struct Follower {
    log: String,
    at: u64,
    cutter: Cutter,
}

impl Follower {
    async fn pass_on(&mut self, lines: Lines<'_>) -> io::Result<()> {
        let mut file = tokio::fs::File::open(&self.log).await?;
        file.seek(SeekFrom::Start(self.at)).await?;
        // To the end as it is now: a program that prints faster than we read must not keep us from looking at the time.
        let new = file.metadata().await?.len().saturating_sub(self.at);
        let (mut new, mut printed) = (file.take(new), vec![0; CHUNK]);
        loop {
            let read = new.read(&mut printed).await?;
            if read == 0 {
                return Ok(());
            }
            self.at += u64::try_from(read).unwrap_or(0);
            self.cutter.pass_on(printed.get(..read).unwrap_or_default(), lines);
        }
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
/// What a child may print on each of its outputs. A node is some 20 KiB of JSON: a thousand of them fit.
const ANSWER: usize = 32 << 20;
/// What is kept of a unit's output: its end, in which apt and kubeadm say why they failed.
const REPORT: u64 = 1 << 20;
/// What is told of one line. A run keeps thousands of them.
const LINE: usize = 2 << 10;
const CHUNK: usize = 64 << 10;
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
    async fn an_answer_without_end_is_an_error() {
        for command in ["cat /dev/zero", "cat /dev/zero >&2"] {
            let error = run(&Command::new("/bin/sh", ["-c", command]), &|_| ()).await.unwrap_err();
            let said = crate::chain::chain(&error);
            assert_eq!(said, "cannot run /bin/sh: it printed more than 32 MiB, which is not taken in", "{command}");
        }
    }

    #[tokio::test]
    async fn a_large_answer_is_taken_in_whole() {
        let command = Command::new("/bin/sh", ["-c", "head --bytes=20000000 /dev/zero | tr '\\0' x"]);
        let seen = std::sync::Mutex::new(Vec::new());
        let output = run(&command, &|line| seen.lock().unwrap().push(line.len())).await.unwrap();
        assert_eq!((output.code, output.stdout.len()), (Some(0), 20_000_000));
        assert_eq!(seen.into_inner().unwrap(), [LINE], "of a line the beginning is told");
    }

    #[test]
    fn lines_come_as_they_were_printed_however_they_arrive() {
        let text = format!("one\n\ntwo  \n{}\nlast", "x".repeat(3 * LINE));
        for size in [1, 7, text.len()] {
            let (seen, mut cutter) = (std::sync::Mutex::new(Vec::new()), Cutter::default());
            let lines = |line: &str| seen.lock().unwrap().push(line.to_owned());
            text.as_bytes().chunks(size).for_each(|printed| cutter.pass_on(printed, &lines));
            cutter.end(&lines);
            assert_eq!(*seen.lock().unwrap(), ["one", "", "two", &"x".repeat(LINE), "last"]);
        }
    }

    #[tokio::test]
    async fn of_a_long_report_the_end_is_kept_from_a_line_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log").to_str().unwrap().to_owned();
        let all: String = (0..200_000).map(|number| format!("line {number}\n")).collect();
        io::Write::write_all(&mut std::fs::File::create(&log).unwrap(), all.as_bytes()).unwrap();
        let kept = tail(&log).unwrap();
        assert!(kept.len() <= 1 << 20 && kept.len() > 1_000_000, "{}", kept.len());
        assert!(kept.starts_with("line ") && all.ends_with(&kept));

        let mut follower = Follower { log, at: 0, cutter: Cutter::default() };
        let count = std::sync::Mutex::new(0);
        let lines = |_: &str| *count.lock().unwrap() += 1;
        follower.pass_on(&lines).await.unwrap();
        follower.pass_on(&lines).await.unwrap();
        assert_eq!(count.into_inner().unwrap(), 200_000, "each line is told once");
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

    #[test]
    fn nothing_in_an_argument_is_a_variable_to_systemd() {
        let args = ["$HOME", "${HOME}", "a$$b", "100%", "plain"];
        let unit = as_unit(&Command::new("/bin/echo", args), "x", "/log");
        assert!(unit.args.ends_with(&["$$HOME", "$${HOME}", "a$$$$b", "100%", "plain"].map(str::to_owned)));
    }
}
