//! Every example is valid for the provider as built.

use crate::harness::{Terraform, ready, repository};

#[test]
fn every_example_validates() {
    if !ready() {
        return;
    }
    let mut checked = 0;
    for folder in std::fs::read_dir(repository().join("examples")).expect("examples").flatten() {
        let name = folder.file_name().into_string().expect("a name");
        if !folder.path().join("main.tf").exists() {
            continue;
        }
        let terraform = Terraform::new(Vec::new());
        terraform.example(&name);
        terraform.run(&["validate", "-no-color"]).exits(0);
        terraform.run(&["fmt", "-check", "-diff", "-no-color"]).exits(0);
        checked += 1;
    }
    assert!(checked > 0, "no example was found");
}

#[test]
fn the_provider_example_validates() {
    if !ready() {
        return;
    }
    let example = std::fs::read_to_string(repository().join("examples/provider/provider.tf")).expect("example");
    let terraform = Terraform::new(Vec::new());
    terraform.write("provider.tf", &example);
    terraform.write("pve-root-ca.pem", "-----BEGIN CERTIFICATE-----");
    terraform.run(&["validate", "-no-color"]).exits(0);
    terraform.run(&["fmt", "-check", "-diff", "-no-color"]).exits(0);
}

#[test]
fn every_resource_example_validates() {
    if !ready() {
        return;
    }
    const PROVIDER: &str =
        "terraform {\n  required_providers {\n    groundwork = { source = \"groundwork-tf/groundwork\" }\n  }\n}\n";
    let mut checked = 0;
    for kind in ["resources", "data-sources", "ephemeral-resources"] {
        let Ok(folders) = std::fs::read_dir(repository().join("examples").join(kind)) else { continue };
        for folder in folders.flatten() {
            let terraform = Terraform::new(Vec::new());
            for file in std::fs::read_dir(folder.path()).expect("example").flatten() {
                if file.path().extension().is_some_and(|end| end == "tf") {
                    let text = std::fs::read_to_string(file.path()).expect("example");
                    terraform.write(&file.file_name().into_string().expect("a name"), &text);
                }
            }
            terraform.write("provider.tf", PROVIDER);
            terraform.run(&["validate", "-no-color"]).exits(0);
            checked += 1;
        }
    }
    assert!(checked >= 10, "every resource, data source and ephemeral resource has an example; found {checked}");
}
