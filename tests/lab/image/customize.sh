#!/bin/sh
# Run by mmdebstrap on the finished root ($1): what needs a command rather than a file.
set -eu
root=$1

chown -R 0:0 "$root/etc/cloud/cloud.cfg.d" "$root/etc/apt" "$root/etc/initramfs-tools" "$root/etc/systemd"
chroot "$root" systemctl preset systemd-networkd.service ssh.service ssh.socket apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer 2>/dev/null
chroot "$root" systemctl set-default multi-user.target 2>/dev/null

# The lab's package repository, at the address that every lab has (see lab/network.py). Its key changes with
# every build of the repository, so the image does not carry it.
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
cat >"$root/etc/apt/sources.list.d/lab.sources" <<END
Types: deb
URIs: http://169.254.77.1/debian
Suites: $LAB_CODENAME
Components: main
Trusted: yes
END

# A swap file, as users' templates have. mke2fs would make holes of zeros, and a swap file must not have any.
yes groundwork | head -c $((64 * 1024 * 1024)) >"$root/swapfile"
chmod 0600 "$root/swapfile"
mkswap --quiet "$root/swapfile"
cat >"$root/etc/fstab" <<END
LABEL=root / ext4 defaults,errors=remount-ro 0 0
/swapfile none swap sw 0 0
END

echo localhost >"$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n' >"$root/etc/hosts"
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_*
rm -f "$root/var/lib/dbus/machine-id" "$root/etc/resolv.conf"
# The kubelet wants the file and CoreDNS a name server in it; nobody answers at this one.
echo 'nameserver 169.254.77.1' >"$root/etc/resolv.conf"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log "$root"/var/log/apt
