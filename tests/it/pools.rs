//! Pools: their whole life, and that one which is there already is nobody's but its owner's.

use crate::harness::{Backend, Lab, Terraform, ready};

fn pools(comment: &str) -> String {
    format!(
        "resource \"groundwork_pool\" \"dev\" {{\n  poolid = \"dev\"\n  {comment}\n}}\n\
         resource \"groundwork_pool\" \"web\" {{\n  poolid = \"${{groundwork_pool.dev.poolid}}/web\"\n}}\n"
    )
}

fn comment_of(lab: &Lab, poolid: &str) -> String {
    let said = lab.control("api", &["GET", "/pools", &format!("poolid={poolid}")]);
    said.exits(0);
    let rows: serde_json::Value = serde_json::from_str(&said.text).expect("the answer is JSON");
    rows[0]["comment"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_pool_is_made_changed_emptied_imported_and_destroyed() {
    if !ready() {
        return;
    }
    let lab = Lab::start("pools", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    for comment in ["one & two; three=4", "five", ""] {
        terraform.configure(&pools(&format!("comment = \"{comment}\"")));
        terraform.apply();
        assert_eq!(comment_of(&lab, "dev"), comment);
        terraform.has_no_changes();
    }
    // What the configuration does not say is somebody else's.
    terraform.configure(&pools(""));
    lab.control("api", &["PUT", "/pools", "poolid=dev", "comment=an administrator's"]).exits(0);
    terraform.has_no_changes();

    for address in ["dev", "web"] {
        terraform.run(&["state", "rm", &format!("groundwork_pool.{address}")]).exits(0);
    }
    terraform.fails(&["Cannot create pool dev", "exists already", "import the pool"]);
    terraform.run(&["import", "-input=false", "groundwork_pool.dev", "dev"]).exits(0);
    terraform.run(&["import", "-input=false", "groundwork_pool.web", "dev/web"]).exits(0);
    terraform.has_no_changes();

    lab.control("api", &["PUT", "/pools", "poolid=dev/web", "storage=data"]).exits(0);
    let said = terraform.run(&["destroy", "-auto-approve", "-input=false", "-no-color"]);
    said.exits(1).says(&["Cannot delete pool dev/web", "contains storage 'data'", "Move its members"]);
    lab.control("api", &["PUT", "/pools", "poolid=dev/web", "storage=data", "delete=1"]).exits(0);
    terraform.destroy();
}

#[test]
fn a_pool_whose_answer_was_lost_is_ours_and_a_misplaced_one_names_its_attribute() {
    if !ready() {
        return;
    }
    let lab = Lab::start("lost-pool", Backend::None, &[]);
    let terraform = Terraform::for_lab(&lab);
    lab.control("fault", &["lost", "POST", "/pools"]).exits(0);
    terraform.configure(&pools("comment = \"kept\""));
    terraform.apply();
    terraform.has_no_changes();
    let alone = "resource \"groundwork_pool\" \"one\" {\n  poolid = \"nowhere/web\"\n}\n";
    terraform.configure(&format!("{}{alone}", pools("comment = \"kept\"")));
    terraform.fails(&["Cannot create pool nowhere/web", "parent 'nowhere'", "poolid = \"nowhere/web\""]);
    terraform.configure(&pools("comment = \"kept\""));
    terraform.destroy();
}
