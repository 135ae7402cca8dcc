//! What people and `kubectl` start the provider's binary for.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands speak to a terminal or to kubectl")]

use crate::agents::{self, Authority, Endpoint, Error, Goal, Issued};
use crate::kubeconfig;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tf::chain;
use trust::Role;

/// `pki init DIR`: makes the agents' CA.
#[must_use]
pub fn pki_init(dir: &str) -> ExitCode {
    match agents::init(Path::new(dir)) {
        Ok(()) => {
            println!("The agents' CA is in {dir}: ca.pem and ca-key.pem. Keep the key as you keep a root password.");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// `pki issue --role observer|operator|admin [--ttl 24h] [--out FOLDER] DIR`: a client certificate by the CA or issuer in DIR.
#[must_use]
pub fn pki_issue(arguments: &[&str]) -> ExitCode {
    let made = Options::of(arguments, ("--role", &["observer", "operator", "admin"]), DAY).and_then(|options| {
        let out = options.out(options.role.word());
        agents::issue(&options.dir, &out, options.role, options.life)
    });
    told(made, "pki_dir = this folder, or client_cert_pem and client_key_pem with ca_cert_pem: its files")
}

/// `pki intermediate --max-role observer|operator|admin [--ttl 720h] [--out FOLDER] DIR`: an issuer below the CA in DIR.
#[must_use]
pub fn pki_intermediate(arguments: &[&str]) -> ExitCode {
    let roles = ("--max-role", &["observer", "operator", "admin"][..]);
    let made = Options::of(arguments, roles, 30 * DAY).and_then(|options| {
        let out = options.out(&format!("{}-issuer", options.role.word()));
        agents::intermediate(&options.dir, &out, options.role, options.life)
    });
    told(made, "whatever takes the CA's folder takes this one: pki_dir, and `pki issue`")
}

/// `pki show FILE`: what a file of the PKI is.
#[must_use]
pub fn pki_show(file: &str) -> ExitCode {
    match agents::show(Path::new(file)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// `pki rotate --from OLD --to NEW [--keep-old] STATE.json`: takes the machines of a configuration over to another CA.
/// `pki rotate --keys DIR STATE.json`: gives each another key. STATE.json is what `terraform show -json` or `terraform state pull` print;
/// `-` reads it from standard input.
#[must_use]
pub fn pki_rotate(arguments: &[&str]) -> ExitCode {
    let asked = || -> Result<(), String> {
        let (rotation, state) = rotation(arguments)?;
        let text =
            if state == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(state) };
        let text = text.map_err(|error| format!("cannot read {state}: {error}"))?;
        let json = serde_json::from_str(&text).map_err(|error| format!("{state} is not JSON: {error}"))?;
        let machines = agents::endpoints(&json);
        if machines.is_empty() {
            return Err(format!("{state} names no machine: no object in it has an `address` and a `fingerprint`"));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let say = |line: &str| println!("{line}");
        let (rotated, left) = match rotation {
            Rotation::Over(pair, goal) => {
                (runtime.block_on(agents::rotate(*pair, &machines, goal, &say)), NOT_TAKEN_OVER)
            }
            Rotation::Keys(authority) => (runtime.block_on(agents::renew(*authority, &machines, &say)), NOT_RENEWED),
        };
        match rotated.map_err(|error| chain(&error))? {
            0 => Ok(()),
            failed => Err(format!("{failed} of the machines could not be {left}")),
        }
    };
    match asked() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

const NOT_TAKEN_OVER: &str =
    "taken over: those keep what they believe, and no other lost the old CA. Do it again when they can be reached";
const NOT_RENEWED: &str =
    "given another key. What is there counts, the key of before or the next one. Do it again when they can be reached";

/// What `pki rotate` is to do.
enum Rotation {
    /// From one CA to another.
    Over(Box<(Authority, Authority)>, Goal),
    /// Other keys, certified by this CA.
    Keys(Box<Authority>),
}

/// What follows `pki rotate`.
fn rotation<'a>(arguments: &[&'a str]) -> Result<(Rotation, &'a str), String> {
    let (mut from, mut to, mut keys, mut goal, mut state) = (None, None, None, Goal::New, None);
    let mut left = arguments.iter().copied();
    while let Some(word) = left.next() {
        let mut value = || left.next().ok_or_else(|| format!("{word} wants a folder"));
        match word {
            "--from" => from = Some(value()?),
            "--to" => to = Some(value()?),
            "--keys" => keys = Some(value()?),
            "--keep-old" => goal = Goal::Both,
            _ if word.starts_with("--") => return Err(format!("{word} is not known here")),
            _ if state.is_some() => return Err(format!("one state is enough, and {word:?} is another")),
            _ => state = Some(word),
        }
    }
    let folder = |given: Option<&str>, flag: &str| {
        let dir = given.ok_or_else(|| format!("{flag} is missing: a folder with `ca.pem` and `ca-key.pem`"))?;
        Authority::from_dir(Path::new(dir)).map_err(|error| format!("{flag} {dir}: {}", chain(&error)))
    };
    let state = state.ok_or("the state is missing: `terraform show -json > state.json` writes one")?;
    if keys.is_some() {
        if from.is_some() || to.is_some() || goal == Goal::Both {
            return Err("--keys stands alone: going over to another CA is a rotation of its own".to_owned());
        }
        return Ok((Rotation::Keys(Box::new(folder(keys, "--keys")?)), state));
    }
    let pair = (folder(from, "--from")?, folder(to, "--to")?);
    Ok((Rotation::Over(Box::new(pair), goal), state))
}

fn told(made: Result<Issued, String>, what_for: &str) -> ExitCode {
    match made {
        Ok(Issued { folder, until }) => {
            println!("{}: until {until}. In the provider's `agent` block: {what_for}.", folder.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

/// What follows `pki issue` and `pki intermediate`.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    role: Role,
    life: Duration,
    out: Option<PathBuf>,
    dir: PathBuf,
}

impl Options {
    fn of(arguments: &[&str], (role_flag, roles): (&str, &[&str]), default: Duration) -> Result<Self, String> {
        let (mut role, mut life, mut out, mut dir) = (None, default, None, None);
        let mut left = arguments.iter().flat_map(|argument| match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => vec![flag, value],
            _ => vec![*argument],
        });
        while let Some(word) = left.next() {
            let mut value = || left.next().ok_or_else(|| format!("{word} wants a value"));
            match word {
                _ if word == role_flag => {
                    let word = value()?;
                    role = Role::of_word(word).filter(|_| roles.contains(&word));
                    role.ok_or_else(|| format!("{role_flag} is one of {}, not {word:?}", roles.join(", ")))?;
                }
                "--ttl" => life = duration(value()?)?,
                "--out" => out = Some(PathBuf::from(value()?)),
                _ if word.starts_with('-') => return Err(format!("{word} is not known here")),
                _ if dir.is_some() => return Err(format!("one folder is enough, and {word:?} is another")),
                _ => dir = Some(PathBuf::from(word)),
            }
        }
        let role = role.ok_or_else(|| format!("{role_flag} is missing: one of {}", roles.join(", ")))?;
        let dir = dir.ok_or("the folder is missing: the one with `ca.pem` and `ca-key.pem`")?;
        Ok(Self { role, life, out, dir })
    }

    /// Where to write: what was asked for, or a folder of that name beside the issuer's files.
    fn out(&self, name: &str) -> PathBuf {
        self.out.clone().unwrap_or_else(|| self.dir.join(name))
    }
}

/// `90s`, `30m`, `24h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.char_indices().last().and_then(|(at, unit)| {
        let factor = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        text.get(..at)?.parse::<u64>().ok()?.checked_mul(factor)
    });
    let seconds = seconds.filter(|seconds| (60..=LONGEST_S).contains(seconds));
    let seconds = seconds.ok_or_else(|| format!("{text:?} is no time between `60s` and `3650d`, such as `24h`"))?;
    Ok(Duration::from_secs(seconds))
}

const DAY: Duration = Duration::from_secs(86_400);
const LONGEST_S: u64 = 3_650 * 86_400;

/// `credential ADDRESS FINGERPRINT …`: prints the administrator's credential for `kubectl`, by the first control plane that gives one. The
/// CA is taken from the environment.
#[must_use]
pub fn credential(agents: &[&str]) -> ExitCode {
    let (pairs, []) = agents.as_chunks::<2>() else { return usage() };
    let endpoints: Vec<Endpoint> = pairs
        .iter()
        .map(|[address, fingerprint]| Endpoint {
            address: (*address).to_owned(),
            fingerprint: (*fingerprint).to_owned(),
        })
        .collect();
    let asked = || -> Result<String, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Error::BadAuthority(error.to_string()))?;
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let authority = Authority::from_environment(set)?.ok_or(Error::NoAuthority)?;
        runtime.block_on(kubeconfig::credential(authority, &endpoints)).map(|credential| credential.to_string())
    };
    match asked() {
        Ok(credential) => {
            println!("{credential}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&chain(&error)),
    }
}

/// `version`: which, of which commit, for which platform.
#[must_use]
pub fn version(commit: Option<&str>) -> ExitCode {
    let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
    println!("terraform-provider-groundwork {} (commit {commit}, {})", env!("CARGO_PKG_VERSION"), platform());
    ExitCode::SUCCESS
}

/// As Terraform's registry calls it: `linux_amd64`.
fn platform() -> String {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{system}_{machine}")
}

/// Anything else.
#[must_use]
pub fn usage() -> ExitCode {
    eprintln!(
        "usage: terraform-provider-groundwork pki init DIR                       make the agents' CA\n       \
         terraform-provider-groundwork pki issue --role ROLE [--ttl 24h] [--out FOLDER] DIR\n       \
         \u{20}                                                            a client certificate: observer, operator, admin\n       \
         terraform-provider-groundwork pki intermediate --max-role ROLE [--ttl 30d] [--out FOLDER] DIR\n       \
         \u{20}                                                            an issuer that gives no more than this role\n       \
         terraform-provider-groundwork pki rotate --from OLD --to NEW [--keep-old] STATE.json\n       \
         \u{20}                                                            take the machines of a state over to another CA\n       \
         terraform-provider-groundwork pki rotate --keys DIR STATE.json\n       \
         \u{20}                                                            give the machines of a state other keys\n       \
         terraform-provider-groundwork pki show FILE                      explain a file of the PKI\n       \
         terraform-provider-groundwork credential ADDRESS FINGERPRINT ...   credential for kubectl (GROUNDWORK_AGENT_*)\n       \
         terraform-provider-groundwork -debug                           serve, and print how to attach Terraform\n       \
         terraform-provider-groundwork version\n\n\
         Terraform starts it without arguments."
    );
    ExitCode::FAILURE
}

fn fail(why: &str) -> ExitCode {
    eprintln!("terraform-provider-groundwork: {}", plain::text(why));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<Options, String> {
        Options::of(&text.split(' ').collect::<Vec<_>>(), ("--role", &["observer", "operator"]), DAY)
    }

    #[test]
    fn options_come_in_any_order() {
        let wanted = Options {
            role: Role::Observer,
            life: Duration::from_secs(7_200),
            out: Some("o".into()),
            dir: "pki".into(),
        };
        assert_eq!(options("--role observer --ttl 2h --out o pki"), Ok(wanted));
        let short = options("pki --role=operator").unwrap();
        assert_eq!((short.life, short.out("operator")), (DAY, PathBuf::from("pki/operator")));
    }

    #[test]
    fn a_rotation_names_what_it_lacks() {
        for (text, said) in [
            ("--from a --to b", "the state is missing"),
            ("--to b state.json", "--from is missing"),
            ("--from /nonexistent --to b state.json", "--from /nonexistent: cannot use"),
            ("a b", "\"b\" is another"),
            ("--form a", "--form is not known"),
            ("--keys a --to b state.json", "--keys stands alone"),
            ("--keys /nonexistent state.json", "--keys /nonexistent: cannot use"),
        ] {
            let error = rotation(&text.split(' ').collect::<Vec<_>>()).err().unwrap();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("pki", "--role is missing"),
            ("--role root pki", "one of observer, operator, not \"root\""),
            ("--role observer", "folder is missing"),
            ("--role observer a b", "\"b\" is another"),
            ("--role observer --ttl 1w pki", "\"1w\" is no time"),
            ("--role observer --ttl 99999d pki", "no time between"),
            ("--role observer --days 3 pki", "--days is not known"),
            ("pki --role", "--role wants a value"),
        ] {
            let error = options(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
