//! What a machine is, as `look.sh` tells it, and what stands in the way of an agent there.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// The script that looks.
pub(super) const SCRIPT: &str = include_str!("look.sh");

/// A machine, looked at before anything is done to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Look {
    looked: bool,
    system: String,
    /// As `uname -m` says it.
    pub(super) machine: String,
    init: String,
    systemd: bool,
    lacks: Vec<String>,
    uuid: String,
    machine_id: String,
    folders: Vec<Folder>,
    /// SHA-256 of the program that is there.
    pub(super) program_sum: String,
    /// SHA-256 of its configuration.
    pub(super) config_sum: String,
    /// The CAs that the agent there believes, PEM.
    pub(super) ca: Option<String>,
    /// systemd's word for the agent's unit.
    pub(super) active: String,
    /// The highest number of a secret that was there.
    pub(super) generation: u64,
    /// For which machine the agent is enrolled.
    pub(super) enrolled: Option<String>,
    /// Whether it can unpack `gzip`.
    pub(super) gzip: bool,
    /// What an installation that was cut off has left, by name.
    pub(super) staged: BTreeMap<String, String>,
}

/// A folder that is written to, or the nearest above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Folder {
    path: String,
    writable: bool,
    free_kib: u64,
    options: String,
}

/// Why there can be no agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) said: String,
    pub(super) cure: String,
}

impl Look {
    /// From the lines of the script. Lines of others, such as those of a shell's profile, are passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut look = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            let word = || plain::line(value).into_owned();
            match key {
                "looked" => look.looked = true,
                "system" => look.system = word(),
                "machine" => look.machine = word(),
                "init" => look.init = word(),
                "systemd" => look.systemd = value == "yes",
                "gzip" => look.gzip = value == "yes",
                "lacks" => look.lacks.push(word()),
                "uuid" => look.uuid = word().to_ascii_lowercase(),
                "machine_id" => look.machine_id = word(),
                "folder" => look.folders.extend(Folder::parse(value)),
                "program_sum" => look.program_sum = word(),
                "config_sum" => look.config_sum = word(),
                "ca" => look.ca = STANDARD.decode(value).ok().map(|pem| String::from_utf8_lossy(&pem).into_owned()),
                "active" => look.active = word(),
                "generation" => look.generation = look.generation.max(value.parse().unwrap_or(0)),
                "enrolled" if !value.is_empty() => look.enrolled = Some(word().to_ascii_lowercase()),
                "staged" => {
                    look.staged.extend(value.split_once(' ').map(|(name, sum)| (name.to_owned(), sum.to_owned())))
                }
                _ => {}
            }
        }
        look
    }

    /// What tells the machine from others, as its agent will: its SMBIOS UUID, or where it has none one that is made of its machine-id,
    /// which itself is not to be told (machine-id(5)).
    pub(super) fn machine_uuid(&self) -> String {
        if !self.uuid.is_empty() {
            return self.uuid.clone();
        }
        let digest = digest(&SHA256, format!("groundwork-machine:{}", self.machine_id).as_bytes());
        let mut bytes = [0_u8; 16];
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, from)| *byte = *from);
        // A UUID of version 8 (RFC 9562) is whatever its maker likes.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = hex::encode(bytes);
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }

    /// What stands in the way, if anything does; `size` is the program's.
    pub(super) fn problem(&self, size: usize) -> Option<Problem> {
        let problem = |said: String, cure: &str| Some(Problem { said, cure: cure.to_owned() });
        if !self.looked {
            return problem(
                "What answers is not the shell of a Linux machine.".to_owned(),
                "Come in where commands are run by a shell: with `ssh`, by another account.",
            );
        }
        if self.system != "Linux" {
            return problem(format!("The machine runs {}.", self.system), "Agents run on Linux: give another machine.");
        }
        if let Some(word) = other_machine(&self.machine) {
            return problem(
                format!("The machine is {}: {word}.", self.machine),
                "Agents run on x86_64 and aarch64 (arm64) machines with a 64-bit system.",
            );
        }
        if !self.systemd {
            return problem(
                format!("The machine's first process is {}, not systemd.", self.init),
                "The agent is a unit of systemd and works through it: use a distribution that starts with systemd, such as Debian, Ubuntu or Raspberry Pi OS.",
            );
        }
        if !self.lacks.is_empty() {
            return problem(format!("The machine lacks {}.", self.lacks.join(", ")), "Install them, and apply again.");
        }
        if self.uuid.is_empty() && self.machine_id.len() != 32 {
            return problem(
                "The machine has neither an SMBIOS UUID nor a machine-id.".to_owned(),
                "Run `systemd-machine-id-setup` there, and apply again.",
            );
        }
        self.place(size)
    }

    /// Whether there is a place for the agent. Nothing is ever put into `/tmp`.
    fn place(&self, size: usize) -> Option<Problem> {
        let fixed: Vec<&str> =
            self.folders.iter().filter(|folder| !folder.writable).map(|folder| folder.path.as_str()).collect();
        if !fixed.is_empty() {
            let said = format!("These folders cannot be written, or what they would be made in: {}.", fixed.join(", "));
            let cure = "Make them writable, such as with `mount -o remount,rw /` if the disk is well (`dmesg` says whether it is), and apply again.";
            return Some(Problem { said, cure: cure.to_owned() });
        }
        let program = self.folders.iter().find(|folder| folder.path == "/usr/local/bin");
        if let Some(folder) = program.filter(|folder| folder.options.split(',').any(|option| option == "noexec")) {
            let said = format!("{} is mounted with `noexec`, so that no program runs from there.", folder.path);
            return Some(Problem { said, cure: "Mount it with `exec`, and apply again.".to_owned() });
        }
        let need = u64::try_from(size).unwrap_or(u64::MAX) / 1024 * 2 + 1024;
        let full = self.folders.iter().find(|folder| {
            ["/usr/local/bin", "/var/lib/groundwork"].contains(&folder.path.as_str()) && folder.free_kib < need
        })?;
        Some(Problem {
            said: format!(
                "{} has {} MiB free, and the agent needs {} MiB there while it is installed.",
                full.path,
                full.free_kib / 1024,
                need / 1024
            ),
            cure: "Make room on the machine, and apply again.".to_owned(),
        })
    }
}

impl Folder {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        Some(Self {
            path: words.next()?.to_owned(),
            writable: words.next()? == "yes",
            free_kib: words.next()?.parse().ok()?,
            options: words.next().unwrap_or_default().to_owned(),
        })
    }
}

/// Why there is no agent for a machine of this kind, if there is none.
fn other_machine(machine: &str) -> Option<&'static str> {
    match machine {
        "x86_64" | "aarch64" => None,
        "armv6l" | "armv7l" | "armv8l" | "arm" => Some("a 32-bit system, also where the processor has 64 bits"),
        "i386" | "i486" | "i586" | "i686" => Some("a 32-bit system"),
        _ => Some("there is no agent for it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "motd: x\nlooked=yes\nsystem=Linux\nmachine=x86_64\ninit=systemd\nsystemd=yes\nuuid=AB-C\nmachine_id=0123456789abcdef0123456789abcdef\n\
        folder=/usr/local/bin yes 900000 rw,relatime\nfolder=/etc/systemd/system yes 900000 rw\nfolder=/var/lib/groundwork yes 900000 rw,noexec\n\
        ca=LS0t\nactive=active\ngeneration=3\ngeneration=2\nenrolled=ab-c\nstaged=agent-x86_64 0011\n";

    #[track_caller]
    fn check(from: &str, to: &str, part: &str) {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD);
        let problem = Look::parse(&text).problem(10 << 20).expect("a problem");
        assert!(problem.said.contains(part), "{problem:?}");
    }

    #[test]
    fn a_machine_that_fits_is_read() {
        let look = Look::parse(GOOD);
        assert_eq!(look.problem(10 << 20), None);
        assert_eq!(
            (look.machine_uuid().as_str(), look.generation, look.enrolled.as_deref()),
            ("ab-c", 3, Some("ab-c"))
        );
        assert_eq!(
            (look.ca.as_deref(), look.staged.get("agent-x86_64").map(String::as_str)),
            (Some("---"), Some("0011"))
        );
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        check("looked=yes\n", "", "not the shell");
        check("Linux", "FreeBSD", "FreeBSD");
        check("x86_64\n", "armv7l\n", "32-bit");
        check("x86_64\n", "riscv64\n", "no agent for it");
        check("systemd=yes\n", "", "not systemd");
        check("init=systemd\nsystemd=yes\n", "init=busybox\n", "busybox");
        check("uuid=", "lacks=install\nuuid=", "install");
        check("uuid=AB-C\nmachine_id=0123456789abcdef0123456789abcdef\n", "", "machine-id");
        check("/etc/systemd/system yes", "/etc/systemd/system no", "/etc/systemd/system");
        check("rw,relatime", "rw,noexec", "noexec");
        check("/var/lib/groundwork yes 900000", "/var/lib/groundwork yes 9000", "/var/lib/groundwork has 8 MiB");
    }

    #[test]
    fn a_machine_without_a_uuid_has_one_of_its_machine_id() {
        let of = |id: &str| Look { machine_id: id.to_owned(), ..Look::default() }.machine_uuid();
        assert_eq!(of("a").len(), 36);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_eq!(of("a").as_bytes().get(14), Some(&b'8'));
    }

    #[test]
    fn any_text_is_answered() {
        total::text("machine-look", &[GOOD], |text| Look::parse(text).problem(10 << 20));
    }
}
