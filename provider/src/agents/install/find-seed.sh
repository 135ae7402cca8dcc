seed=/var/lib/cloud/seed/nocloud
mounted=
if [ ! -d "$seed/groundwork" ]; then
  for disk in /dev/disk/by-label/CIDATA /dev/disk/by-label/cidata "$(blkid -t LABEL=CIDATA -o device 2>/dev/null | head -n 1)"; do
    [ -b "$disk" ] || continue
    mounted=/run/groundwork-seed
    mkdir -p "$mounted"
    if mount -o ro "$disk" "$mounted"; then
      seed=$mounted
      break
    fi
    mounted=
  done
fi
if [ -f "$seed/groundwork/install.sh" ]; then
  sh "$seed/groundwork/install.sh" || echo "groundwork: the agent was not installed" >&2
fi
if [ -n "$mounted" ]; then
  umount "$mounted"
  rmdir "$mounted"
fi
