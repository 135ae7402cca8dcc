//! A user of a machine puts a link in the place of a file that is declared in his folder: it leads the agent nowhere.

use crate::harness::{Backend, Lab, Terraform, ready, scene};

const MOTD: &str = "  file \"/etc/motd\" { content = \"Ours.\\n\" }\n";
const DECLARED: &str = r#"  file "/srv/bob/app.conf" { content = "level = 1\n" }"#;

#[test]
fn a_users_link_gets_him_nothing_of_roots() {
    if !ready() {
        return;
    }
    let lab = Lab::start("links", Backend::Nspawn, &[]);
    let terraform = Terraform::for_lab(&lab);
    let declare = |files: &str| terraform.configure(&scene::one(&lab, 70, &format!("{MOTD}{files}")));
    let bob = |line: &str| lab.must("one", &format!("runuser -u nobody -- sh -c '{line}'"));
    declare("");
    terraform.apply();
    lab.must(
        "one",
        "install -d -o nobody /srv/bob; install -m 0600 /dev/null /etc/app.conf; echo root > /etc/app.conf",
    );

    // In the place of the file.
    bob("ln -s /etc/app.conf /srv/bob/app.conf");
    declare(DECLARED);
    terraform.apply();
    assert_eq!(lab.must("one", "cat /etc/app.conf /srv/bob/app.conf"), "root\nlevel = 1");
    let kept = lab.must("one", "grep -rl ^root /var/lib/groundwork/originals || true");
    assert_eq!(kept, "", "what it led to was not kept");

    // In the place of the folder.
    lab.must("one", "chown nobody /srv");
    bob("mv /srv/bob /srv/mine && ln -s /etc /srv/bob");
    terraform.plan().says(&["Links of users are not followed", "declare the path it leads to"]);
    terraform.fails(&["bob on the way is a link to /etc, made by the user"]);
    declare("");
    terraform.apply();
    assert_eq!(
        lab.must("one", "cat /etc/app.conf; stat -c %a:%U /etc/app.conf; cat /etc/motd"),
        "root\n600:root\nOurs."
    );
    terraform.has_no_changes();
    terraform.destroy();
}
