//! The quickstart as a user makes it: the provider from a mirror by `init`, with a lock file, and a cluster of it. Whether the program is
//! Terraform or OpenTofu decides which registry the provider is of.

use crate::harness::run::run;
use crate::harness::terraform::{PLATFORM, program, version};
use crate::harness::{Backend, Lab, provider_binary, ready};
use crate::quickstart::{self, lab_is_empty, nodes};

#[test]
fn the_quickstart_comes_from_a_mirror_and_makes_a_cluster() {
    if !ready() {
        return;
    }
    let lab = Lab::start("registry", Backend::Nspawn, &[]);
    let terraform = quickstart::prepare(&lab, 1);
    let version = version();
    for registry in ["registry.terraform.io", "registry.opentofu.org"] {
        let folder = terraform.path(&format!("plugins/{registry}/groundwork-tf/groundwork/{version}/{PLATFORM}"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let to = folder.join(format!("terraform-provider-groundwork_v{version}"));
        std::fs::copy(provider_binary(), to).expect("copy");
    }
    let mirror = terraform.path("plugins");
    terraform.write(
        "terraform.rc",
        &format!("provider_installation {{\n  filesystem_mirror {{\n    path = \"{}\"\n  }}\n}}\n", mirror.display()),
    );

    terraform.run(&["init", "-input=false", "-no-color"]).exits(0);
    let lock = std::fs::read_to_string(terraform.path(".terraform.lock.hcl")).expect("a lock file");
    let tofu = run(crate::harness::run::command(program()).arg("version")).text.contains("OpenTofu");
    let registry = if tofu { "registry.opentofu.org" } else { "registry.terraform.io" };
    assert!(lock.contains(&format!("provider \"{registry}/groundwork-tf/groundwork\"")), "{lock}");

    terraform.apply();
    assert_eq!(nodes(&lab), ["cp-1", "worker-1"]);
    terraform.has_no_changes();
    terraform.destroy();
    lab_is_empty(&lab);
}
