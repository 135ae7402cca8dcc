//! What scripts/demo.sh applies where no Kubernetes is near: the example's machines, and no cluster.

use crate::harness::{Backend, Lab, Terraform, ready};
use crate::quickstart::lab_is_empty;

#[test]
fn a_lab_without_kubernetes_makes_the_machines_of_the_example() {
    if !ready() {
        return;
    }
    let lab = Lab::start("machines", Backend::Nspawn, &["--kubernetes", "none"]);
    let terraform = Terraform::for_lab(&lab);
    terraform.example("quickstart");
    terraform.write("terraform.tfvars.json", &lab.file("quickstart.tfvars.json"));
    terraform.write("lab_override.tf.json", &lab.file("quickstart_override.tf.json"));

    terraform.apply().says(&["5 added"]);
    terraform.has_no_changes();
    for vm in ["cp-1", "worker-1"] {
        assert_eq!(lab.must(vm, "cat /etc/motd; hostname"), format!("This machine is managed by Groundwork.\n{vm}"));
        assert_ne!(lab.exec(vm, "command -v kubelet").code, 0, "{vm} has no Kubernetes");
    }
    terraform.destroy();
    lab_is_empty(&lab);
}
