//! One of the quickstart's machines as a virtual one: what a container cannot show. A control plane would take too long under emulation.

use crate::harness::{Backend, Lab, ready};
use crate::quickstart::{self, lab_is_empty, machine_is_prepared, variables};
use serde_json::json;

#[test]
fn the_quickstart_holds_on_qemu() {
    if !ready() {
        return;
    }
    let lab = Lab::start("qemu", Backend::Qemu, &[]);
    let terraform = quickstart::prepare_machines(&lab, 0);
    terraform.apply();
    machine_is_prepared(&lab, VM);
    kernel_is_prepared(&lab, VM);
    terraform.has_no_changes();

    // Swap comes back by hand: the plan shows it and the apply takes it away again.
    lab.must(VM, "swapon /swapfile 2>/dev/null || swapon /swap.img");
    terraform.plan().exits(2).says(&["swap", "is active", "1 to change"]);
    // At every boot, by a unit that nobody has heard of.
    lab.must(VM, MORE_SWAP);
    terraform.plan().exits(2).says(&["swap: more-swap.service turns swap on"]);
    terraform.apply();
    terraform.has_no_changes();

    // More cores need a reboot, which `reboot` (true unless said otherwise) allows; the plan says so beforehand.
    let mut values = variables(&lab, 0);
    values["cores"] = json!(3);
    terraform.variables(&values);
    terraform.plan().exits(2).says(&["cores", "reboot"]);
    terraform.apply();
    assert_eq!(lab.must(VM, "nproc"), "3");
    // The boot has not brought the swap back, and the unit is still there: its owner may want it again.
    kernel_is_prepared(&lab, VM);
    lab.must(VM, "test -e /etc/systemd/system/more-swap.service && ! systemctl is-active --quiet more-swap");
    terraform.has_no_changes();

    terraform.destroy();
    lab_is_empty(&lab);
}

const VM: &str = "cp-1";
const MORE_SWAP: &str = "printf '[Service]\\nType=oneshot\\nExecStart=/sbin/swapon '$(ls /swapfile /swap.img 2>/dev/null)'\\n\
    [Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/more-swap.service && systemctl enable more-swap";

#[track_caller]
fn kernel_is_prepared(lab: &Lab, vm: &str) {
    let swaps = lab.must(vm, "cat /proc/swaps");
    assert_eq!(swaps.lines().count(), 1, "{vm}: swap is off\n{swaps}");
    assert_eq!(
        lab.must(vm, "grep -cE '^[^#].*[[:space:]]swap[[:space:]]' /etc/fstab || true"),
        "0",
        "{vm}: swap stays off"
    );
    lab.must(vm, "ls /dev/disk/by-id | grep drive-scsi0");
    for module in ["overlay", "br_netfilter"] {
        lab.must(vm, &format!("test -d /sys/module/{module}"));
    }
    assert_eq!(lab.must(vm, "sysctl -n net.bridge.bridge-nf-call-iptables"), "1", "{vm}");
}
