//! What stands on a machine made from a user's template: Debian 12 with swap in many forms, a blank data disk, cloud-init.

use super::Fake;
use crate::host::Probe;

pub(super) fn fill(fake: &Fake) {
    for (path, content) in FILES {
        fake.put(path, content);
    }
    fake.link("/dev/disk/by-id/scsi-data", "../../sdb");
    fake.device("/dev/sdb", Probe { size: 10 << 30, zeros: true, busy: false });
    fake.start("zramswap.service");
}

const FILES: &[(&str, &str)] = &[
    ("/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
    ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("/etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nadm:x:4:\n"),
    ("/etc/hostname", "template\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n"),
    ("/etc/motd", "Debian\n"),
    ("/etc/cloud/cloud.cfg", ""),
    ("/etc/fstab", "UUID=1 / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n"),
    ("/etc/apt/apt.conf.d/01", ""),
    ("/etc/sysctl.d/99-zzz-hardening.conf", "kernel.dmesg_restrict = 1\nnet.ipv4.ip_forward = 0\n"),
    ("/proc/swaps", "Filename Type Size Used Priority\n/swap.img file 2097148 0 -2\n/dev/zram0 partition 1024 0 100\n"),
    ("/proc/meminfo", "MemTotal: 4030000 kB\nMemAvailable: 3500000 kB\n"),
    ("/proc/modules", "virtio_net 65536 0 - Live 0x0\n"),
    (
        "/proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 010200C0 0003 0 0 0 00000000\n",
    ),
    ("/proc/self/mountinfo", "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"),
    ("/proc/1/status", "CapBnd:\t000001ffffffffff\n"),
    ("/proc/sys/kernel/hostname", "template\n"),
    ("/proc/sys/kernel/osrelease", "6.1.0-31-amd64\n"),
    ("/proc/sys/net/ipv4/ip_forward", "0\n"),
    ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("/lib/modules/6.1.0-31-amd64/modules.builtin", "kernel/fs/ext4/ext4.ko\n"),
    ("/run/systemd/timesync/synchronized", ""),
    ("/run/systemd/generator/swap.img.swap", ""),
    ("/run/systemd/generator.late/dev-sda2.swap", ""),
    ("/etc/systemd/system/extra.swap", "[Swap]\nWhat=/extra\n"),
    ("/usr/lib/systemd/system-generators/zram-generator", ""),
    ("/usr/lib/systemd/zram-generator.conf.d/vendor.conf", "[zram0]\n"),
    ("/etc/systemd/zram-generator.conf", "[zram0]\nzram-size = ram\n"),
    ("/usr/lib/systemd/system/zramswap.service", ""),
    ("/usr/lib/systemd/system/swap.target", ""),
    ("/usr/lib/systemd/system/fstrim.timer", ""),
    ("/usr/lib/systemd/system/apt-daily.timer", ""),
    ("/usr/lib/systemd/system/apt-daily-upgrade.timer", ""),
    ("/usr/bin/apt-get", ""),
    (
        "/var/lib/dpkg/status",
        "Package: apt\nStatus: install ok installed\nVersion: 2.6.1\n\n\
         Package: kubectl\nStatus: hold ok installed\nVersion: 1.27.0-1.1\n\n\
         Package: telnet\nStatus: install ok installed\nVersion: 0.17\n",
    ),
];
