//! `examples/gitlab-ci` as it is, run for real: every job of its pipelines, cancelled and locked ones too.

use crate::harness::gitlab::{GitLab, Project, cancel};
use crate::harness::run::{Said, command, run};
use crate::harness::terraform::version;
use crate::harness::{Backend, Lab, prepared, provider_binary, ready, wait_until};
use crate::quickstart::lab_is_empty;
use serde_json::{Value, json};
use std::path::Path;

/// What plan jobs hold, and what apply jobs do.
const OBSERVER: [&str; 6] = [
    "GROUNDWORK_AGENT_CA_CERT_PEM",
    "GROUNDWORK_AGENT_CLIENT_CERT_PEM",
    "GROUNDWORK_AGENT_CLIENT_KEY_PEM",
    "GROUNDWORK_PROXMOX_API_TOKEN",
    "GROUNDWORK_PROXMOX_CA_CERT_PEM",
    "GROUNDWORK_PROXMOX_ENDPOINTS",
];
const ADMINISTRATOR: [&str; 5] = [
    "GROUNDWORK_AGENT_CA_CERT_PEM",
    "GROUNDWORK_AGENT_CA_KEY_PEM",
    "GROUNDWORK_PROXMOX_API_TOKEN",
    "GROUNDWORK_PROXMOX_CA_CERT_PEM",
    "GROUNDWORK_PROXMOX_ENDPOINTS",
];

#[test]
fn the_examples_pipeline_runs_from_the_merge_request_to_the_destruction() {
    let Some(runner) = prepared("GROUNDWORK_GITLAB_CI_LOCAL") else { return };
    if !ready() {
        return;
    }
    let lab = Lab::start("gitlab", Backend::Nspawn, &["--kubernetes", "none"]);
    let pki = tempfile::tempdir().expect("a folder");
    for words in ["init", "issue --role observer --ttl 90d"] {
        run(command(provider_binary()).arg("pki").args(words.split(' ')).arg(pki.path())).exits(0);
    }
    let gitlab = GitLab::start();
    let variables = variables(&lab, pki.path());
    let project = Project::new(&gitlab, &runner, &variables);

    a_merge_request_is_planned(&project, &lab);
    let other = Project::new(&gitlab, &runner, &variables);
    an_apply_is_locked_and_cancelled_and_the_next_one_finishes(&project, &other, &gitlab, &lab);
    drift_is_red(&project, &lab);

    project.runs("push", &["destroy"]).exits(0);
    lab_is_empty(&lab);
}

/// The variables of the table in `.gitlab-ci.yml`, with its scopes.
fn variables(lab: &Lab, pki: &Path) -> Value {
    let file = |name: &str| std::fs::read_to_string(pki.join(name)).expect("a file of the PKI");
    let lab = |name: &str| lab.value(name);
    let both = |value: String| json!({ "values": { "plan": value, "production": value } });
    let both_files = |value: String| json!({ "type": "file", "values": { "plan": value, "production": value } });
    let planned = |value: String| json!({ "type": "file", "values": { "plan": value } });
    json!({
        "GROUNDWORK_PROXMOX_ENDPOINTS": both(lab("GROUNDWORK_PROXMOX_ENDPOINTS")),
        "GROUNDWORK_PROXMOX_API_TOKEN": {
            "values": { "plan": lab("LAB_AUDITOR_TOKEN"), "production": lab("GROUNDWORK_PROXMOX_API_TOKEN") },
        },
        "GROUNDWORK_PROXMOX_CA_CERT_PEM": both_files(lab("GROUNDWORK_PROXMOX_CA_CERT_PEM")),
        "GROUNDWORK_AGENT_CA_CERT_PEM": both_files(file("ca.pem")),
        "GROUNDWORK_AGENT_CLIENT_CERT_PEM": planned(file("observer/client.pem")),
        "GROUNDWORK_AGENT_CLIENT_KEY_PEM": planned(file("observer/client-key.pem")),
        "GROUNDWORK_AGENT_CA_KEY_PEM": { "type": "file", "values": { "production": file("ca-key.pem") } },
        "PROVIDER_VERSION": version(),
        "TF_VAR_node": "pve1",
        "TF_VAR_image_url": lab("LAB_IMAGE_URL"),
        "TF_VAR_image_checksum": format!("sha256:{}", lab("LAB_IMAGE_SHA256")),
        "TF_VAR_address": format!("{}/24", lab("LAB_SUBNET").replace(".0/24", ".31")),
        "TF_VAR_gateway": lab("LAB_SUBNET").replace(".0/24", ".1"),
    })
}

#[track_caller]
fn a_merge_request_is_planned(project: &Project, lab: &Lab) {
    project.runs("merge_request_event", &["validate", "plan"]).exits(0).says(&["3 to add"]);
    let report = std::fs::read_to_string(project.path("project/.gitlab-ci-local/builds/plan/report.json"));
    let report: Value = serde_json::from_str(&report.expect("the report")).expect("JSON");
    assert_eq!(report, json!({ "create": 3, "update": 0, "delete": 0 }));
    assert!(project.path("project/.gitlab-ci-local/artifacts/plan/plan.tfplan").is_file(), "the plan is an artefact");
    holds(project, "validate", &[]);
    holds(project, "plan", &OBSERVER);
    let token = project.environment_of("plan").remove("GROUNDWORK_PROXMOX_API_TOKEN");
    assert_eq!(token, Some(lab.value("LAB_AUDITOR_TOKEN")));
}

/// The job's Terraform had these of our variables and no others.
#[track_caller]
fn holds(project: &Project, job: &str, names: &[&str]) {
    let environment = project.environment_of(job);
    let own: Vec<&str> =
        environment.keys().map(String::as_str).filter(|name| name.starts_with("GROUNDWORK_")).collect();
    assert_eq!(own, names, "{job}");
}

#[track_caller]
fn an_apply_is_locked_and_cancelled_and_the_next_one_finishes(
    project: &Project,
    other: &Project,
    gitlab: &GitLab,
    lab: &Lab,
) {
    lab.control("fault", &["slow-task", "qmstart", "300"]).exits(0);
    let log = std::fs::File::create(project.path("apply.log")).expect("a log");
    let mut apply = project.pipeline("push", &["--needs", "apply"]);
    let mut apply = apply.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("a pipeline");
    wait_until("the VM is being started", || lab.tasks("qmstart").contains(&Value::Null));
    holds(project, "apply", &ADMINISTRATOR);

    // Elsewhere: a job that does not wait for the lock, as another project's or a person's apply.
    let impatient = "TF_CLI_ARGS_apply=-lock-timeout=0s";
    let refused = other.runs("push", &["--needs", "apply", "--variable", impatient]);
    refused.exits(1).says(&["Error acquiring the state lock"]);
    assert!(gitlab.refused() > 0 && gitlab.is_locked(), "it was the server that refused");

    cancel(&apply);
    apply.wait().expect("the pipeline ends");
    let text = std::fs::read_to_string(project.path("apply.log")).expect("the log");
    for words in ["Interrupt received.", "Cannot create VM one", "is recorded in the state as tainted"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    wait_until("Terraform has let the lock go", || !gitlab.is_locked());
    assert!(!lab.tasks("qmstart").contains(&Value::Null), "the task was stopped in Proxmox VE too:\n{text}");
    assert!(gitlab.state().contains("\"groundwork_vm\""), "the VM is recorded: {}\n{text}", gitlab.state());
    lab.control("fault", &["clear"]).exits(0);

    // The plan of the cancelled pipeline is one of a state that is no more.
    project.runs("push", &["apply"]).exits(1).says(&["Saved plan is stale"]);
    project.runs("push", &["--needs", "apply"]).exits(0);
    let inventory = lab.inventory();
    assert_eq!(inventory["vms"].as_array().map(Vec::len), Some(1), "one VM, and no other: {inventory}");
    assert_eq!(lab.must("one", "cat /etc/motd"), "Made by a pipeline.");
}

#[track_caller]
fn drift_is_red(project: &Project, lab: &Lab) {
    let drift = || -> Said { project.runs("schedule", &["drift"]) };
    drift().exits(0).says(&["No changes."]);
    holds(project, "drift", &OBSERVER);
    lab.must("one", "echo changed >/etc/motd");
    drift().exits(1).says(&["/etc/motd", "1 to change"]);
    project.runs("push", &["--needs", "apply"]).exits(0);
    assert_eq!(lab.must("one", "cat /etc/motd"), "Made by a pipeline.");
    drift().exits(0);
    // Nobody can look at it, so nobody knows that it is right.
    lab.must("one", "systemctl stop groundwork-agent");
    drift().exits(1).says(&["Cannot look at"]);
    lab.must("one", "systemctl start groundwork-agent");
    drift().exits(0);
}
