//! Images: from a file that changes or is missing, from a URL that does not hold what it should, and what a new one means for VMs.

use crate::harness::{Backend, Lab, Terraform, ready};
use std::os::unix::fs::FileExt as _;

/// The image, with everything but node and resource left to the case.
fn image(rest: &str) -> String {
    format!("resource \"groundwork_image\" \"one\" {{\n  node = \"pve1\"\n{rest}\n}}\n")
}

const FILE: &str = "  storage = \"local\"\n  file_name = \"one.qcow2\"\n  source_file = \"./one.qcow2\"\n";

const VM: &str = r#"
resource "groundwork_vm" "one" {
  node       = "pve1"
  name       = "one"
  image = groundwork_image.one.volume_id
  memory_mib = 512
  disk "scsi0" {
    storage  = "local-lvm"
    size_gib = 2
  }
}
"#;

#[test]
fn an_image_that_cannot_come_names_its_cure_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let lab = Lab::start("no-image", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let check = |configuration: &str, parts: &[&str]| {
        terraform.configure(configuration);
        terraform.fails(&[&["Cannot create image", "nothing was recorded in the state"], parts].concat());
        assert_eq!(lab.inventory()["volumes"], serde_json::json!([]), "{parts:?}");
        assert_eq!(terraform.run(&["state", "list"]).text, "", "{parts:?}");
    };
    let url = lab.value("LAB_IMAGE_URL");
    let download = |url: &str, sum: &str, storage: &str| {
        image(&format!(
            "  storage = \"{storage}\"\n  file_name = \"one.qcow2\"\n  url = \"{url}\"\n  checksum = \"sha256:{sum}\"\n"
        ))
    };
    let (right, wrong) = (lab.value("LAB_IMAGE_SHA256"), "0".repeat(64));

    check(&image(FILE), &["Cannot read ./one.qcow2", "Make the file readable"]);
    std::fs::copy(lab.value("LAB_IMAGE"), terraform.path("one.qcow2")).expect("copy the image");
    let summed = format!("{FILE}  checksum = \"sha256:{wrong}\"\n");
    check(&image(&summed), &["checksum mismatch", "Correct `checksum`", "checksum = \"sha256:0"]);
    check(&download(&url, &wrong, "local"), &["checksum mismatch", "Correct `checksum`"]);
    check(&download(&url.replace("machine", "nothing"), &right, "local"), &["404", "Correct `url`"]);
    for configuration in [image(&FILE.replace("\"local\"", "\"data\"")), download(&url, &right, "local-lvm")] {
        check(&configuration, &["does not hold content `import`", "These do: local.", "Set `storage`"]);
    }
    lab.control("fault", &["full-storage", "local"]).exits(0);
    for configuration in [image(FILE), download(&url, &right, "local")] {
        check(&configuration, &["No space left on device", "Free space on the storage"]);
    }
    lab.control("fault", &["clear"]).exits(0);
}

#[test]
fn an_image_on_a_node_that_is_away_stands_in_nobodys_way() {
    if !ready() {
        return;
    }
    let lab = Lab::start("away", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    std::fs::copy(lab.value("LAB_IMAGE"), terraform.path("one.qcow2")).expect("copy the image");
    // More than the network holds on its way: of a file that has left as a whole, nobody knows what became.
    let file = std::fs::OpenOptions::new().write(true).open(terraform.path("one.qcow2")).expect("the copy");
    file.set_len(64 << 20).expect("a larger file");
    // An upload that is cut in the middle is sent again, and so is a read that failed once for no known reason.
    lab.control("fault", &["cut-during", "POST", "*/upload"]).exits(0);
    lab.control("fault", &["refuse", "GET", "*/content", "message=got timeout"]).exits(0);
    let there = image(FILE).replace("pve1", "pve2");
    terraform.configure(&there);
    terraform.apply();

    lab.control("fault", &["offline-node", "pve2"]).exits(0);
    let other = "resource \"groundwork_pool\" \"one\" {\n  poolid = \"one\"\n}\n";
    terraform.configure(&format!("{there}{other}"));
    terraform.plan().exits(2).says(&[
        "Warning: Cannot look at image local:import/one.qcow2 on node pve2",
        "does not reach node pve2: No route to host",
        "Bring the node back",
        "1 to add, 0 to change, 0 to destroy",
    ]);
    terraform.apply();
    lab.control("fault", &["clear"]).exits(0);
    terraform.has_no_changes();
    terraform.destroy();
}

#[test]
fn what_others_say_moves_no_cursor() {
    if !ready() {
        return;
    }
    let lab = Lab::start("escapes", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    std::fs::copy(lab.value("LAB_IMAGE"), terraform.path("one.qcow2")).expect("copy the image");
    terraform.configure(&image(FILE));
    let said = "message=\u{1b}[2J\u{7}gone \u{9b}1m\u{202e}txt";
    lab.control("fault", &["refuse", "GET", "*/storage", "always", said]).exits(0);
    let said = terraform.fails(&["Cannot create image", r"\u{1b}[2J\u{7}gone \u{9b}1m\u{202e}txt"]);
    let odd = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!said.text.contains(odd), "{:?}", said.text);
}

#[test]
fn a_changed_file_is_uploaded_again_and_no_new_image_replaces_a_vm() {
    if !ready() {
        return;
    }
    let lab = Lab::start("changed-image", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    let bytes = std::fs::read(lab.value("LAB_IMAGE")).expect("the image");
    let write = |more: &[u8]| {
        let all = [bytes.as_slice(), more].concat();
        std::fs::copy(lab.value("LAB_IMAGE"), terraform.path("one.qcow2")).expect("copy the image");
        let mut file = std::fs::OpenOptions::new().append(true).open(terraform.path("one.qcow2")).expect("the copy");
        std::io::Write::write_all(&mut file, more).expect("append");
        all.len()
    };
    write(b"");
    terraform.configure(&format!("{}{VM}", image(FILE)));
    terraform.apply();
    terraform.has_no_changes();
    let before = terraform.resource("groundwork_vm.one");

    let length = write(b"another content");
    terraform.plan().exits(2).says(&[
        "groundwork_image.one will be updated in-place",
        "./one.qcow2 has changed since it was uploaded",
        "0 to add, 1 to change, 0 to destroy",
    ]);
    terraform.apply();
    assert_eq!(terraform.resource("groundwork_image.one")["size"], length);
    terraform.has_no_changes();

    std::fs::remove_file(terraform.path("one.qcow2")).expect("remove the file");
    terraform.plan().exits(0).says(&["Warning: Cannot compare image local:import/one.qcow2", "Put the file back"]);

    write(b"the next release");
    let next = FILE.replace("  file_name = \"one.qcow2\"", "  file_name = \"two.qcow2\"");
    terraform.configure(&format!("{}{VM}", image(&next)));
    terraform.plan().exits(2).says(&[
        "groundwork_image.one must be replaced",
        "groundwork_vm.one will be updated in-place",
        "recorded; used at creation only",
        "1 to add, 1 to change, 1 to destroy",
    ]);
    terraform.apply();
    terraform.has_no_changes();
    let after = terraform.resource("groundwork_vm.one");
    assert_eq!((&before["uuid"], &before["disk"]), (&after["uuid"], &after["disk"]), "the VM is the same");

    // An image that is made anew under its old name is no change of a VM at all.
    terraform.run(&["taint", "groundwork_image.one"]).exits(0);
    terraform.plan().exits(2).says(&["groundwork_image.one is tainted", "1 to add, 0 to change, 1 to destroy"]);
}

#[test]
fn an_image_that_is_larger_than_its_disk_is_seen_before_a_machine_is_made() {
    if !ready() {
        return;
    }
    let lab = Lab::start("large-image", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    std::fs::copy(lab.value("LAB_IMAGE"), terraform.path("one.qcow2")).expect("copy the image");
    // The size of the disk in a qcow2 file stands at byte 24 of its head.
    let file = std::fs::OpenOptions::new().write(true).open(terraform.path("one.qcow2")).expect("the copy");
    file.write_all_at(&(2_u64 << 30).to_be_bytes(), 24).expect("a larger disk");
    let vm = |gib: u32| format!("{}{}", image(FILE), VM.replace("size_gib = 2", &format!("size_gib = {gib}")));
    terraform.configure(&vm(1));
    terraform.fails(&[
        "Cannot create VM one",
        "size_gib = 1",
        "Disk scsi0 has 2 GiB, as its image or template does",
        "Nothing was created",
        "Set `size_gib` to 2 or more",
    ]);
    assert_eq!((lab.inventory()["vms"].clone(), lab.tasks("qmcreate").len()), (serde_json::json!([]), 0));
    terraform.configure(&vm(3));
    terraform.apply();
    terraform.has_no_changes();
    let uuid = terraform.resource("groundwork_vm.one")["uuid"].clone();
    // No machine goes for one that could not be made.
    terraform.configure(&vm(1));
    let said = terraform.run(&["apply", "-auto-approve", "-input=false", "-no-color", "-replace=groundwork_vm.one"]);
    said.exits(1).says(&[
        "Cannot replace VM",
        "Disk scsi0 has 2 GiB, as its image does",
        "the old one was not destroyed",
    ]);
    terraform.configure(&vm(3));
    terraform.has_no_changes();
    assert_eq!(terraform.resource("groundwork_vm.one")["uuid"], uuid);
    terraform.destroy();
}

/// A VM on a node that has not the image names the node that has.
#[test]
fn an_image_on_another_nodes_storage_is_named_with_its_node() {
    if !ready() {
        return;
    }
    let lab = Lab::start("elsewhere", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    std::fs::copy(lab.value("LAB_IMAGE"), terraform.path("one.qcow2")).expect("copy the image");
    let vm = |node: &str| format!("{}{}", image(FILE), VM.replace("\"pve1\"", &format!("\"{node}\"")));
    terraform.configure(&vm("pve2"));
    terraform.fails(&[
        "Cannot create VM one on node pve2",
        "image = groundwork_image.one.volume_id",
        "Node pve2 has no image local:import/one.qcow2",
        "pve1 has one of that name",
        "Nothing was created",
        "Set `node` to pve1",
        "a `groundwork_image` whose `node` is pve2",
    ]);
    assert_eq!(lab.inventory()["vms"], serde_json::json!([]));
    terraform.configure(&vm("pve1"));
    terraform.apply();
    terraform.destroy();
}
