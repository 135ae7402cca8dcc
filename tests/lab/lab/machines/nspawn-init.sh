# First process of a container machine: makes it look like a machine of its own, then becomes systemd.
#   nspawn-init.sh UUID
set -eu
uuid=$1
real=/run/lab
mount --make-rprivate /
mkdir -p $real/class $real/proc

# /sys/class/dmi/id/product_uuid: the VM's SMBIOS UUID. Everything else in /sys/class is the kernel's, bound and not
# linked: udev takes no device whose path leaves /sys.
mount -t tmpfs -o mode=0755 tmpfs $real/class
for class in /sys/class/*; do
    name=${class##*/}
    [ "$name" != dmi ] || continue
    mkdir "$real/class/$name"
    mount --bind "$class" "$real/class/$name"
done
mkdir -p $real/class/dmi/id
echo "$uuid" >$real/class/dmi/id/product_uuid
chmod 0400 $real/class/dmi/id/product_uuid
echo QEMU >$real/class/dmi/id/sys_vendor
echo 'Standard PC (i440FX + PIIX, 1996)' >$real/class/dmi/id/product_name
mount --move $real/class /sys/class

# /proc/sys: network settings are the container's own, all others would be the host's. A copy takes their place:
# what is written to it can be read back and touches nothing.
mount -t tmpfs -o mode=0755 tmpfs $real/proc
for part in /proc/sys/*; do
    [ "${part##*/}" = net ] || cp -r "$part" $real/proc/ 2>/dev/null || true
done
find $real/proc -type f -exec chmod u+w {} +
mkdir $real/proc/net
mount --rbind /proc/sys/net $real/proc/net
for own in kernel/hostname kernel/domainname kernel/random; do
    mount --rbind /proc/sys/$own $real/proc/$own
done
mount --move $real/proc /proc/sys

# Control groups of the first version: the kubelet and containers write into every hierarchy, and systemd must not
# look for the second version.
if [ ! -e /sys/fs/cgroup/cgroup.procs ]; then
    for hierarchy in /sys/fs/cgroup/*/; do
        ! mountpoint -q "$hierarchy" || mount -o remount,bind,rw "$hierarchy"
    done
    # Nor does systemd always learn there that a service it ends has become empty, and cloud-init's wait for that for ever.
    for service in cloud-init-local cloud-init cloud-config cloud-final; do
        mkdir -p /run/systemd/system/$service.service.d
        printf '[Service]\nTimeoutStopSec=2\n' >/run/systemd/system/$service.service.d/lab.conf
    done
    export SYSTEMD_PROC_CMDLINE="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1"
fi

# The kubelet reads the kernel's messages, and a container has none.
[ -e /dev/kmsg ] || ln -s /dev/console /dev/kmsg

# It is the console that the journal would read there, again and again: it would come minutes behind its units.
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\nReadKMsg=no\n' >/run/systemd/journald.conf.d/lab.conf

# As on a real machine, where systemd does it: else the kubelet binds its folder onto itself.
mount --make-rshared /

# A container's root is mounted from outside; fstab's line for it is for the virtual machine.
mkdir -p /run/systemd/system
ln -s /dev/null /run/systemd/system/systemd-remount-fs.service

# Nobody else has these addresses: checking would keep every boot waiting for a second.
for interface in /proc/sys/net/ipv6/conf/*; do
    echo 0 >"$interface/accept_dad"
done

exec /lib/systemd/systemd
