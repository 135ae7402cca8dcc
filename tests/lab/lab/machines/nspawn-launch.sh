# Starts a container inside a mount namespace of its own:
#   nspawn-launch.sh TAG OVERLAY-OPTIONS ROOT NSPAWN-ARGUMENT...
set -eu
tag=$1 overlay=$2 root=$3
shift 3

# A control group of its own in every hierarchy, for the container's systemd must not meet the host's.
for group in /sys/fs/cgroup/"$tag" /sys/fs/cgroup/*/"$tag"; do
    [ -d "$group" ] && echo $$ >"$group/cgroup.procs"
done
mount -t overlay overlay -o "$overlay" "$root"

# The container gets control groups of the version that the host has: beside the first, the second has no controllers.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
else
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0
fi
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
export SYSTEMD_SECCOMP=0
exec systemd-nspawn --quiet --directory="$root" --register=no --keep-unit --settings=no --console=read-only \
    --resolv-conf=off --timezone=off --link-journal=no --kill-signal=SIGRTMIN+3 \
    --capability=CAP_NET_ADMIN,CAP_SYSLOG,CAP_BPF,CAP_IPC_LOCK "$@"
