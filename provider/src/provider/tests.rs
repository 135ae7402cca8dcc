//! The provider block and the environment.

use std::path::Path as FilePath;

use tf::{Attr, Secret};

use super::block::{AgentBlock, ProxmoxBlock};
use super::*;
use crate::context::Proxmox;
use crate::explain;

#[track_caller]
fn check(block: ProxmoxBlock, environment: &[(&str, &str)], wanted: &str) {
    let variable = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    let settings = Settings { block: Block { proxmox: block.into(), ..Block::default() }, variable };
    let got = match settings.proxmox() {
        Proxmox::NoEndpoint => "no endpoint".to_owned(),
        Proxmox::NoCredentials => "no credentials".to_owned(),
        Proxmox::Unknown => "unknown".to_owned(),
        Proxmox::Config(config) => format!("{:?} {:?} {:?}", config.endpoints, config.auth, config.trust),
    };
    assert_eq!(got, wanted);
}

const TOKEN: (&str, &str) = ("GROUNDWORK_PROXMOX_API_TOKEN", "a@pam!env=1");
const ENDPOINTS: (&str, &str) = ("GROUNDWORK_PROXMOX_ENDPOINTS", "https://a:8006, https://b:8006");

#[test]
fn the_environment_fills_what_the_block_leaves_out() {
    check(ProxmoxBlock::default(), &[], "no endpoint");
    check(ProxmoxBlock::default(), &[TOKEN], "no endpoint");
    check(ProxmoxBlock::default(), &[ENDPOINTS], "no credentials");
    check(
        ProxmoxBlock::default(),
        &[TOKEN, ENDPOINTS, ("PROXMOX_VE_INSECURE", "True")],
        r#"["https://a:8006", "https://b:8006"] Token(a@pam!env) Nobody"#,
    );
}

#[test]
fn the_block_goes_before_the_environment() {
    let block = ProxmoxBlock {
        username: "root@pam".into(),
        password: Secret::new("x".to_owned()).into(),
        insecure: false.into(),
        ..ProxmoxBlock::default()
    };
    check(
        block,
        &[TOKEN, ENDPOINTS, ("GROUNDWORK_PROXMOX_TLS_FINGERPRINT", "ab")],
        r#"["https://a:8006", "https://b:8006"] Password(root@pam) System"#,
    );
}

#[test]
fn the_variables_of_other_providers_are_enough() {
    check(
        ProxmoxBlock::default(),
        &[("PROXMOX_VE_ENDPOINT", "https://a:8006"), ("PROXMOX_VE_API_TOKEN", "a@pam!b=1")],
        r#"["https://a:8006"] Token(a@pam!b) System"#,
    );
}

#[test]
fn an_unknown_value_postpones_everything() {
    check(ProxmoxBlock { api_token: Attr::Unknown, ..ProxmoxBlock::default() }, &[ENDPOINTS], "unknown");
}

/// An unknown block is not an empty one: the environment's CA may be another than the one to come.
#[test]
fn an_unknown_ca_is_neither_missing_nor_the_environments() {
    let variable = |name: &str| (name == "GROUNDWORK_AGENT_PKI_DIR").then(|| "/nonexistent".to_owned());
    let unknown_key =
        AgentBlock { ca_cert_pem: "-----BEGIN x".into(), ca_key_pem: Attr::Unknown, ..AgentBlock::default() };
    for agent in [Attr::Unknown, unknown_key.into()] {
        let settings = Settings { block: Block { agent, ..Block::default() }, variable };
        let error = settings.agents().unwrap().can_install().unwrap_err();
        let said = explain::agent("create VM 120", &error).to_string();
        assert!(said.contains("comes from something that is not applied yet.\n\nNothing was asked"), "{said}");
        assert!(said.contains("`terraform apply -target=…`"), "{said}");
    }
}

#[test]
fn nothing_configured_is_no_error_until_it_is_needed() {
    assert!(Data::default().pve().unwrap_err().detail().contains("GROUNDWORK_PROXMOX_ENDPOINTS"));
}

#[test]
fn contradictions_in_the_block_are_refused_with_their_attribute() {
    let proxmox = ProxmoxBlock { insecure: true.into(), ca_cert_pem: "x".into(), ..ProxmoxBlock::default() };
    let agent = AgentBlock { pki_dir: "x".into(), ca_cert_pem: "x".into(), ..AgentBlock::default() };
    let found = Groundwork.validate(&Block { proxmox: proxmox.into(), agent: agent.into() });
    let paths: Vec<String> = found.iter().map(|problem| problem.path().unwrap().to_string()).collect();
    assert_eq!(paths, ["proxmox.insecure", "agent.pki_dir"]);
    let agent = AgentBlock {
        ca_key_pem: Secret::new("x".to_owned()).into(),
        client_cert_pem: "x".into(),
        ..AgentBlock::default()
    };
    let found = Groundwork.validate(&Block { agent: agent.into(), ..Block::default() });
    let paths: Vec<String> = found.iter().map(|problem| problem.path().unwrap().to_string()).collect();
    assert_eq!(paths, ["agent.client_cert_pem"]);
}

/// The certificate can stand in the configuration, and what to use with it come from the job.
#[test]
fn the_environment_gives_the_key_for_the_blocks_certificate() {
    use crate::agents::{init, issue};
    let dir = tempfile::tempdir().unwrap();
    init(dir.path()).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let life = std::time::Duration::from_secs(3_600);
    issue(dir.path(), &dir.path().join("observer"), trust::Role::Observer, life).unwrap();
    let agent = AgentBlock { ca_cert_pem: path("ca.pem").into(), ..AgentBlock::default() };
    let highest = |environment: &[(&str, String)]| {
        let variable = |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| value.clone());
        let block = Block { agent: agent.clone().into(), ..Block::default() };
        Settings { block, variable }.agents().map(|agents| agents.at_most(trust::Role::Admin))
    };
    assert_eq!(highest(&[("GROUNDWORK_AGENT_CA_KEY_PEM", path("ca-key.pem"))]), Ok(trust::Role::Admin));
    let client = [
        ("GROUNDWORK_AGENT_CLIENT_CERT_PEM", path("observer/client.pem")),
        ("GROUNDWORK_AGENT_CLIENT_KEY_PEM", path("observer/client-key.pem")),
    ];
    assert_eq!(highest(&client), Ok(trust::Role::Observer));
    let alone = highest(&[]).unwrap_err().to_string();
    assert!(alone.contains("neither `ca_key_pem` nor"), "{alone}");
}

#[test]
fn a_user_is_told_of_an_ending_certificate_and_of_insecure() {
    use crate::agents::{Agents, Authority, init, issue};
    let dir = tempfile::tempdir().unwrap();
    init(dir.path()).unwrap();
    let out = dir.path().join("observer");
    issue(dir.path(), &out, trust::Role::Observer, std::time::Duration::from_secs(3_600)).unwrap();
    let agents = Agents::new(Some(Authority::from_dir(&out).unwrap()));
    let block = ProxmoxBlock { insecure: true.into(), ..ProxmoxBlock::default() };
    let variable =
        |name: &str| [TOKEN, ENDPOINTS].iter().find(|(own, _)| *own == name).map(|(_, own)| (*own).to_owned());
    let settings = Settings { block: Block { proxmox: block.into(), ..Block::default() }, variable };
    let told = Groundwork.notices(&Data::new(settings.proxmox(), agents));
    let paths: Vec<String> = told.iter().map(|notice| notice.path().unwrap().to_string()).collect();
    assert_eq!((paths.join(" ").as_str(), told.has_errors()), ("agent.client_cert_pem proxmox.insecure", false));
    assert!(Groundwork.notices(&Data::default()).is_empty());
}

#[test]
fn one_fingerprint_is_refused_for_several_nodes() {
    let endpoints = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>().into();
    let block = |endpoints: Attr<Vec<String>>| {
        let proxmox = ProxmoxBlock { endpoints, tls_fingerprint: "ab".into(), ..ProxmoxBlock::default() };
        Groundwork.validate(&Block { proxmox: proxmox.into(), ..Block::default() })
    };
    assert!(block(endpoints(&["https://a:8006"])).is_empty());
    let found = block(endpoints(&["https://a:8006", "https://b:8006"]));
    let [problem] = &found.iter().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
    assert_eq!(problem.path().unwrap().to_string(), "proxmox.tls_fingerprint");
    assert!(problem.detail().contains("`ca_cert_pem`"), "{problem}");
}

#[test]
fn every_row_fills_the_field_of_its_name() {
    tf::testing::rows_match_fields::<Block>();
    tf::testing::rows_match_fields::<ProxmoxBlock>();
    tf::testing::rows_match_fields::<AgentBlock>();
    Groundwork.resources().iter().for_each(AnyResource::rows_match_fields);
    Groundwork.data_sources().iter().for_each(AnyDataSource::rows_match_fields);
    Groundwork.ephemeral_resources().iter().for_each(AnyEphemeralResource::rows_match_fields);
}

/// In the value of an attribute Terraform drops names that it does not know.
#[test]
fn the_guide_names_every_attribute_in_which_names_are_dropped() {
    fn walk(block: &tf::Block, at: &str, found: &mut Vec<String>) {
        for attribute in &block.attributes {
            let name = format!("{at}.{}", attribute.facts.name);
            match attribute.shape.block() {
                Some(within) if attribute.facts.form.is_block() => walk(within, &name, found),
                Some(_) if attribute.facts.given != tf::Given::Computed => found.push(name),
                Some(_) | None => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&tf::Block::of::<Block>(), "provider", &mut found);
    for resource in Groundwork.resources() {
        walk(&resource.block(), &format!("groundwork_{}", resource.name()), &mut found);
    }
    for source in Groundwork.data_sources() {
        walk(&source.block(), &format!("data.groundwork_{}", source.name()), &mut found);
    }
    for ephemeral in Groundwork.ephemeral_resources() {
        walk(&ephemeral.block(), &format!("ephemeral.groundwork_{}", ephemeral.name()), &mut found);
    }
    let listed = [
        "groundwork_cluster.control_planes",
        "groundwork_cluster.workers",
        "groundwork_etcd_snapshot.control_planes",
        "groundwork_machine.endpoint",
        "ephemeral.groundwork_kubeconfig.control_planes",
    ];
    assert_eq!(found, listed, "what a person writes by hand is a block");
    let guide = include_str!("../../../docs/guides/coming-from-bpg.md");
    for name in found {
        assert!(guide.contains(&format!("`{name}`")), "docs/guides/coming-from-bpg.md does not name `{name}`");
    }
}

/// The reference pages are made from rows, and checked in.
#[test]
fn the_reference_pages_are_made_from_the_rows() {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let example = |path: &str| std::fs::read_to_string(root.join("examples").join(path)).ok();
    for page in tf::docs::pages(&Groundwork, example) {
        expect_test::expect_file![root.join("docs").join(&page.path)].assert_eq(&page.text);
    }
}
