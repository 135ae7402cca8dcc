//! A Raspberry Pi, as far as there is one without the board: Debian's arm64 system with its firmware package, the board's own words where the
//! kernel shows them, a real firmware partition, and the agent for arm64 run by an emulator. And an x86 machine that says it is an arm64 one,
//! which is brought that agent.
//!
//! `GROUNDWORK_AGENT_AARCH64` names the agent, which the provider has to carry, too; without it this is left out: it takes minutes to build.
//! `scripts/setup.sh`'s `build_agent aarch64` makes it. The root is made once by mmdebstrap, under emulation, and cached.

use crate::harness::ready;
use crate::harness::run::{Said, command, on_path, run};
use crate::ssh::Machine;
use std::path::{Path, PathBuf};

/// The agent for arm64, where everything else is there, too.
fn agent() -> Option<PathBuf> {
    let agent = std::env::var_os("GROUNDWORK_AGENT_AARCH64").map(PathBuf::from);
    let programs = ["mmdebstrap", "mkfs.vfat", "unshare"].into_iter().all(on_path);
    let emulated = Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists();
    if agent.is_none() || !programs || !emulated {
        eprintln!("skipped: this test needs GROUNDWORK_AGENT_AARCH64, qemu-user-static, mmdebstrap and dosfstools");
        return None;
    }
    agent
}

/// Within a world of its own mounts: the board as the kernel shows it, and its partitions.
const BOARD: &str = r#"set -eu
root=$1 firmware=$2 controllers=$3
shift 3
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount -t tmpfs sys "$root/sys"
mkdir -p "$root/sys/firmware/devicetree/base" "$root/sys/fs/cgroup"
printf 'Raspberry Pi 4 Model B Rev 1.4\0' >"$root/sys/firmware/devicetree/base/model"
echo "$controllers" >"$root/sys/fs/cgroup/cgroup.controllers"
mkdir -p "$root/boot/firmware"
[ "$firmware" = none ] || mount -o loop "$firmware" "$root/boot/firmware"
# Not as the first process: by that one systemctl sees that nothing was booted here.
chroot "$root" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" || exit $?
exit 0
"#;

struct Board {
    /// Holds the root's changes and the partition; gone when dropped.
    folder: tempfile::TempDir,
}

impl Board {
    #[track_caller]
    fn new(agent: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let board = Self { folder };
        let root = base();
        run(command("cp").arg("-a").arg(root).arg(board.root())).exits(0);
        run(command("cp").arg(agent).arg(board.root().join("agent"))).exits(0);
        run(command("truncate").args(["-s", "64M"]).arg(board.firmware())).exits(0);
        // FAT as on the board, where this computer's kernel has it.
        let filesystems = std::fs::read_to_string("/proc/filesystems").expect("the kernel's list");
        let make = if filesystems.contains("vfat") { "mkfs.vfat" } else { "mkfs.ext4" };
        run(command(make).arg(board.firmware())).exits(0);
        board
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn firmware(&self) -> PathBuf {
        self.folder.path().join("firmware")
    }

    /// A shell line on the board, whose kernel has these controllers; with the firmware partition mounted.
    fn sh(&self, controllers: &str, line: &str) -> Said {
        self.on(&self.firmware(), controllers, line)
    }

    fn on(&self, firmware: &Path, controllers: &str, line: &str) -> Said {
        let world = ["--mount", "--pid", "--fork", "sh", "-c", BOARD, "sh"];
        run(command("unshare").args(world).arg(self.root()).arg(firmware).args([controllers, "sh", "-c", line]))
    }
}

/// Debian 12 for arm64, with what a Raspberry Pi has.
fn base() -> PathBuf {
    let cache = std::env::var_os("GROUNDWORK_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| std::env::home_dir().expect("a home").join(".cache/groundwork"));
    let root = cache.join("raspberry-1");
    if !root.exists() {
        let new = cache.join(format!("raspberry-1.new-{}", std::process::id()));
        let said = run(command("mmdebstrap")
            .args(["--quiet", "--architectures=arm64", "--variant=minbase", "--components=main,non-free-firmware"])
            .args(["--include=systemd,systemd-sysv,dphys-swapfile,raspi-firmware,iproute2", "bookworm"])
            .arg(&new));
        said.exits(0);
        std::fs::rename(&new, &root).expect("one root for all");
    }
    root
}

const OFF: &str = "cpuset cpu io hugetlb pids";
const ON: &str = "cpuset cpu io memory hugetlb pids";
const LINE: &str =
    "console=serial0,115200 console=tty1 root=PARTUUID=35684e8a-02 rootfstype=ext4 fsck.repair=yes rootwait quiet";

#[test]
fn a_raspberry_pi_accounts_memory_and_has_no_swap() {
    let Some(agent) = agent() else { return };
    if !ready() {
        return;
    }
    let board = Board::new(&agent);
    // Raspberry Pi OS: the line as its image has it, and rpi-swap's generator beside dphys-swapfile.
    let os = format!(
        "echo '{LINE}' >/boot/firmware/cmdline.txt; mv /etc/kernel/postinst.d/z50-raspi-firmware /root/; mkdir -p /etc/rpi; \
         touch /usr/lib/systemd/system-generators/rpi-swap-generator; \
         echo '{{\"memory_cgroup\": true, \"swap\": \"off\"}}' >/spec.json"
    );
    board.sh(OFF, &os).exits(0);
    assert_eq!(board.sh(OFF, "uname -m").text.trim(), "aarch64", "emulated");
    let plan = board.sh(OFF, "/agent plan /spec.json");
    plan.exits(0).says(&[
        "swap: rpi-swap makes swap at every boot",
        "swap: dphys-swapfile.service is not masked",
        "memory_cgroup: /boot/firmware/cmdline.txt does not switch the memory cgroup on: a reboot is needed after it does",
        "memory_cgroup: the memory cgroup is off until the next boot",
    ]);
    eprintln!("{}", plan.text);
    let applied = board
        .sh(OFF, "mkdir -p /run && /agent apply /spec.json && test -e /run/reboot-required && /agent plan /spec.json");
    applied.exits(0).says(&["memory_cgroup"]);
    let line = board.sh(OFF, "cat /boot/firmware/cmdline.txt; ls -A -I lost+found /boot/firmware");
    assert_eq!(
        line.text,
        format!("{LINE} cgroup_enable=memory cgroup_memory=1\ncmdline.txt\n"),
        "one line, nothing beside it"
    );
    let swap = board.sh(OFF, "readlink /etc/systemd/system/dphys-swapfile.service /etc/systemd/system/swap.target; cat /etc/rpi/swap.conf.d/*");
    assert_eq!(swap.text, "/dev/null\n/dev/null\n# Groundwork keeps swap off.\n[Main]\nMechanism=none\n");
    // After the reboot nothing is missing, and a line that somebody changed is.
    let clean = board.sh(ON, "rm -f /run/reboot-required; /agent plan /spec.json");
    clean.exits(0);
    assert_eq!(clean.text.trim(), "", "nothing is missing");
    board
        .sh(ON, &format!("echo '{LINE}' >/boot/firmware/cmdline.txt; /agent plan /spec.json"))
        .says(&["cmdline.txt does not"]);
    board.on(Path::new("none"), OFF, "/agent apply /spec.json").exits(1).says(&["is not mounted at /boot/firmware"]);

    // Debian: its hook makes the line anew with each kernel.
    let debian = "mv /root/z50-raspi-firmware /etc/kernel/postinst.d/ && /agent apply /spec.json && cat /etc/default/raspi-extra-cmdline && \
        touch /boot/vmlinuz-6.1.0-99-arm64 /boot/initrd.img-6.1.0-99-arm64 && mkdir -p /usr/lib/linux-image-6.1.0-99-arm64/broadcom && \
        DEB_MAINT_PARAMS=configure /etc/kernel/postinst.d/z50-raspi-firmware 6.1.0-99-arm64 /boot/vmlinuz-6.1.0-99-arm64; cat /boot/firmware/cmdline.txt";
    let anew = board.sh(ON, debian);
    eprintln!("{}", anew.text);
    anew.says(&["net.ifnames=0 rootwait cgroup_enable=memory cgroup_memory=1"]);
}

#[test]
fn an_arm64_machine_gets_the_agent_for_arm64() {
    if agent().is_none() || !ready() {
        return;
    }
    let machine = Machine::start("arm64");
    // The emulator writes what it runs; on a real machine there is none.
    machine.must(
        "printf '#!/bin/sh\\n[ \"$1\" = -m ] && echo aarch64 || exec /usr/bin/uname \"$@\"\\n' >/usr/local/bin/uname && chmod +x /usr/local/bin/uname; \
         mkdir -p /etc/systemd/system/groundwork-agent.service.d; \
         printf '[Service]\\nMemoryDenyWriteExecute=no\\nSystemCallArchitectures=\\nSystemCallFilter=\\n' >/etc/systemd/system/groundwork-agent.service.d/emulated.conf",
    );
    let terraform = machine.folder();
    terraform.configure(&machine.as_root(""));
    terraform.apply();
    terraform.has_no_changes();
    let there = terraform.resource("groundwork_agent.pi");
    assert_eq!(there["facts"]["architecture"], "aarch64");
    assert_eq!(
        machine.must("head -c 20 /usr/local/bin/groundwork-agent | tail -c 2 | od -An -tx1").trim(),
        "b7 00",
        "EM_AARCH64"
    );
    machine.end();
}
