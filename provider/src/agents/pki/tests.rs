//! The PKI's files, what is made of them, and what agents make of that.

use super::*;
use rustls::pki_types::UnixTime;
use std::io::Write as _;
use trust::{Clock, NotTrusted, Usage, verify};

fn clock() -> Clock {
    Clock { now: UnixTime::now(), tolerance: Some(Duration::ZERO), may_be_slow: false }
}

/// A folder with a CA.
fn root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path()).unwrap();
    dir
}

fn read_in(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join(name)).unwrap()
}

#[cfg(unix)]
fn mode(dir: &Path, name: &str) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    dir.join(name).metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn init_writes_a_ca_that_can_be_read_back() {
    let dir = root();
    let authority = Authority::from_dir(dir.path()).unwrap();
    let (chain, _) = authority.client(Role::Operator).unwrap();
    let seen = verify(&chain, authority.anchors(), Usage::Client, clock()).unwrap();
    assert_eq!(seen.role, Some(Role::Operator));
    assert!(init(dir.path()).unwrap_err().contains("ca-key.pem"), "never overwritten");
    #[cfg(unix)]
    assert_eq!((mode(dir.path(), "ca.pem"), mode(dir.path(), "ca-key.pem")), (0o644, 0o600));
}

#[test]
fn a_client_certificate_is_issued_with_its_role_and_life() {
    let dir = root();
    let out = dir.path().join("observer");
    issue(dir.path(), &out, Role::Observer, 24 * HOUR).unwrap();
    #[cfg(unix)]
    assert_eq!((mode(&out, "client.pem"), mode(&out, "client-key.pem"), mode(&out, "")), (0o644, 0o600, 0o700));
    let authority = Authority::from_dir(&out).unwrap();
    let (chain, _) = authority.client(Role::Observer).unwrap();
    let seen = verify(&chain, authority.anchors(), Usage::Client, clock()).unwrap();
    assert_eq!(seen.role, Some(Role::Observer));
    let at = |after: Duration| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + after);
        verify(&chain, authority.anchors(), Usage::Client, Clock { now, ..clock() })
    };
    assert!(at(23 * HOUR).is_ok());
    assert!(matches!(at(25 * HOUR), Err(NotTrusted::Expired { .. })));
    // Issued again, it takes the place of the one before.
    issue(dir.path(), &out, Role::Observer, HOUR).unwrap();
    assert_ne!(Authority::from_dir(&out).unwrap().client(Role::Observer).unwrap().0, chain);
    assert!(issue(&out, dir.path(), Role::Observer, HOUR).unwrap_err().contains("no key to issue others with"));
    assert!(issue(dir.path(), dir.path(), Role::Observer, HOUR).unwrap_err().contains("is the folder of an issuer"));
}

#[test]
fn a_client_certificate_can_do_what_its_role_can_and_says_what_it_lacks() {
    let dir = root();
    let out = dir.path().join("observer");
    issue(dir.path(), &out, Role::Observer, HOUR).unwrap();
    let authority = Authority::from_dir(&out).unwrap();
    let lacks = authority.client(Role::Operator).err().unwrap();
    assert!(matches!(lacks, Error::LesserRole { has: Role::Observer, needs: Role::Operator }), "{lacks}");
    assert!(
        lacks.to_string().contains("`agent.client_cert_pem`") || lacks.to_string().contains("agent.client_cert_pem")
    );
    assert!(matches!(authority.can_enrol(), Err(Error::NoKey { role: Role::Observer })));
    assert!(matches!(authority.machine(b"", ""), Err(Error::NoKey { .. })));
    let whole = Authority::from_dir(dir.path()).unwrap();
    assert!(whole.can_enrol().is_ok());
}

#[test]
fn an_issuer_gives_no_more_than_its_ceiling_and_agents_know() {
    let dir = root();
    let out = dir.path().join("issuer");
    intermediate(dir.path(), &out, Role::Operator, 24 * HOUR).unwrap();
    let issuer = Authority::from_dir(&out).unwrap();
    let anchors = Authority::from_dir(dir.path()).unwrap().anchors().to_vec();
    assert_eq!(issuer.anchors(), anchors, "the CA alone goes into seeds");
    let (chain, _) = issuer.client(Role::Operator).unwrap();
    assert_eq!(verify(&chain, &anchors, Usage::Client, clock()).unwrap().role, Some(Role::Operator));
    assert!(matches!(issuer.client(Role::Admin), Err(Error::Ceiling { highest: Role::Operator, needs: Role::Admin })));
    assert!(matches!(issuer.can_enrol(), Err(Error::Ceiling { .. })));
    // A thief of the key asks nobody what it may do.
    let Authority { holds: Holds::Issuer(mut stolen), .. } = issuer else { panic!("an issuer") };
    stolen.highest = Role::Admin;
    let (forged, _) = stolen.client(Role::Admin, HOUR).unwrap();
    assert_eq!(verify(&forged, &anchors, Usage::Client, clock()), Err(NotTrusted::AboveCeiling));
    let thief = Authority::of(anchors.clone(), Holds::Issuer(stolen));
    let machine = KeyPair::generate().unwrap();
    let posing = thief.machine(&machine.subject_public_key_info(), "abcd").unwrap();
    assert!(verify(&posing, &anchors, Usage::Server, clock()).is_err(), "no machine is its to certify");
    // Below it certificates can be issued, and no further issuer.
    issue(&out, &out.join("operator"), Role::Operator, HOUR).unwrap();
    assert!(Authority::from_dir(&out.join("operator")).unwrap().client(Role::Operator).is_ok());
    assert!(
        issue(&out, &out.join("admin"), Role::Admin, HOUR).unwrap_err().contains("may give the role operator at most")
    );
    assert!(
        intermediate(&out, &out.join("x"), Role::Observer, HOUR).unwrap_err().contains("allows no issuer below it")
    );
}

#[test]
fn an_administrators_issuer_enrols_while_the_ca_is_away() {
    let dir = root();
    let out = dir.path().join("issuer");
    intermediate(dir.path(), &out, Role::Admin, 24 * HOUR).unwrap();
    let issuer = Authority::from_dir(&out).unwrap();
    let machine = KeyPair::generate().unwrap();
    let chain = issuer.machine(&machine.subject_public_key_info(), "ABCD").unwrap();
    let seen = verify(&chain, issuer.anchors(), Usage::Server, clock()).unwrap();
    assert_eq!(seen.uris, ["groundwork:machine:abcd"]);
}

#[test]
fn a_machine_certificate_carries_the_uuid_and_the_key() {
    let authority = Authority::from_dir(root().path()).unwrap();
    let machine = KeyPair::generate().unwrap();
    let spki = machine.subject_public_key_info();
    let issued = authority.machine(&spki, "ABCD").unwrap();
    let seen = verify(&issued, authority.anchors(), Usage::Server, clock()).unwrap();
    assert_eq!((seen.uris, seen.public_key), (vec!["groundwork:machine:abcd".to_owned()], spki));
    assert!(authority.machine(b"rsa", "x").is_err());
}

#[test]
fn every_ca_of_a_bundle_is_believed() {
    let ((one, key), (other, other_key)) = (issue::make().unwrap(), issue::make().unwrap());
    for key in [&key, &other_key] {
        let authority = Authority::from_pem(&format!("{one}{other}"), key).unwrap();
        assert_eq!(authority.anchors().len(), 2);
        assert_eq!(authority.pem().matches("BEGIN").count(), 2, "and goes into seeds");
        let (chain, _) = authority.client(Role::Admin).unwrap();
        verify(&chain, authority.anchors(), Usage::Client, clock()).unwrap();
    }
}

#[test]
fn what_is_wrong_is_said() {
    let ((certificate, key), (other, _)) = (issue::make().unwrap(), issue::make().unwrap());
    let said = |certificate: &str, key: &str| Authority::from_pem(certificate, key).unwrap_err().to_string();
    assert!(said("x", &key).contains("certificate is not PEM"));
    assert!(said(&certificate, "x").contains("key is not"));
    assert!(said(&other, &key).contains("does not belong"));
    let dir = root();
    issue(dir.path(), &dir.path().join("o"), Role::Observer, HOUR).unwrap();
    let (client, client_key) = (read_in(dir.path(), "o/client.pem"), read_in(dir.path(), "o/client-key.pem"));
    let said = |ca: &str, client: &str, key: &str| Authority::ready(ca, client, key).unwrap_err().to_string();
    let ca = read_in(dir.path(), "ca.pem");
    assert!(said(&ca, &client, &key).contains("client key does not belong"));
    assert!(said(&other, &client, &client_key).contains("not issued by the expected CA"));
    assert!(said(&ca, &ca, &read_in(dir.path(), "ca-key.pem")).contains("client certificate"));
}

/// As `openssl ecparam -genkey` and Vault write a key that nobody asked to be PKCS #8: SEC 1. It opens nothing.
const SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIM5cdPLozszfecaRBdMt+nRnoGixBRQiJ9wFb3SaX9HIoAoGCCqGSM49
AwEHoUQDQgAEa9+ZbkcZpBl1bnZ3tAvKUUj2clS4F5FNDcN22ulZRHhmq5GbwZq4
VYHbcTg41iMG8P0MAqckJLlFVRY6K7zjFA==
-----END EC PRIVATE KEY-----
";

#[test]
fn a_key_of_another_issuers_form_is_shown_to_agents() {
    let dir = root();
    let ca = Authority::from_dir(dir.path()).unwrap();
    let Holds::Issuer(signer) = &ca.holds else { panic!("an issuer") };
    let mut params = named("somebody else's");
    params.subject_alt_names = vec![uri(&Role::Observer.uri()).unwrap()];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = params.signed_by(&KeyPair::from_pem(SEC1).unwrap(), &signer.issuer).unwrap();
    let ready = Authority::ready(&read_in(dir.path(), "ca.pem"), &client.pem(), SEC1).unwrap();
    let (_, key) = ready.client(Role::Observer).unwrap();
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let path = dir.path().join("sec1.pem");
    std::fs::File::create(&path).unwrap().write_all(SEC1.as_bytes()).unwrap();
    assert!(show(&path).unwrap().starts_with("private key of "));
}

/// What GROUNDWORK_AGENT_* give.
fn made(given: &[(&str, &str)]) -> Result<Option<Authority>, Error> {
    Authority::from_environment(|name| {
        let given = given.iter().find(|(own, _)| name == format!("GROUNDWORK_AGENT_{own}"));
        given.map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn the_environment_gives_texts_files_or_a_folder() {
    let dir = root();
    let out = dir.path().join("observer");
    issue(dir.path(), &out, Role::Observer, HOUR).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, key) = (read_in(dir.path(), "ca.pem"), read_in(dir.path(), "ca-key.pem"));
    let highest = |given: &[(&str, &str)]| made(given).unwrap().unwrap().highest();
    assert_eq!(highest(&[("CA_CERT_PEM", &certificate), ("CA_KEY_PEM", &key)]), Role::Admin);
    assert_eq!(highest(&[("CA_CERT_PEM", &path("ca.pem")), ("CA_KEY_PEM", &path("ca-key.pem"))]), Role::Admin);
    let client =
        [("CLIENT_CERT_PEM", path("observer/client.pem")), ("CLIENT_KEY_PEM", path("observer/client-key.pem"))];
    let client = client.each_ref().map(|(name, path)| (*name, path.as_str()));
    assert_eq!(highest(&[("CA_CERT_PEM", &certificate), client[0], client[1]]), Role::Observer);
    assert_eq!(highest(&[("PKI_DIR", &path(""))]), Role::Admin);
    assert_eq!(highest(&[("PKI_DIR", &path("observer"))]), Role::Observer);
    assert!(made(&[]).unwrap().is_none());
    let said = |given: &[(&str, &str)]| made(given).unwrap_err().to_string();
    assert!(said(&[("CA_CERT_PEM", &certificate)]).contains("neither `ca_key_pem` nor"));
    assert!(said(&[("CA_CERT_PEM", &certificate), client[0]]).contains("`client_key_pem` is not"));
    assert!(said(&[("CA_KEY_PEM", &key)]).contains("`ca_cert_pem` is missing"));
    // Half a key is not repeated.
    let half = said(&[("CA_CERT_PEM", &certificate), ("CA_KEY_PEM", "MIGHAgEA")]);
    assert!(half.contains("`ca_key_pem` holds neither PEM") && !half.contains("MIGHAgEA"), "{half}");
}

#[test]
fn a_certificate_near_its_end_is_told() {
    let dir = root();
    let told = |life: Duration| {
        let out = dir.path().join("observer");
        issue(dir.path(), &out, Role::Observer, life).unwrap();
        Authority::from_dir(&out).unwrap().endings()
    };
    assert_eq!(told(24 * HOUR), [], "half of its life of two days is left");
    let [ending] = &told(HOUR)[..] else { panic!("one") };
    assert_eq!((ending.attribute, ending.is_over), ("client_cert_pem", false));
    assert!(ending.subject.contains("groundwork observer"), "{ending:?}");
}

#[test]
fn every_file_is_explained() {
    let dir = root();
    intermediate(dir.path(), &dir.path().join("issuer"), Role::Operator, 24 * HOUR).unwrap();
    issue(&dir.path().join("issuer"), &dir.path().join("o"), Role::Observer, 24 * HOUR).unwrap();
    let said = |name: &str| show(&dir.path().join(name)).unwrap();
    let ca = said("ca.pem");
    assert!(ca.contains("what       CA\n") && ca.contains("issued by  itself\n"), "{ca}");
    let pin = ca.lines().find_map(|line| line.strip_prefix("key        ")).unwrap();
    assert_eq!(said("ca-key.pem"), format!("private key of {pin}\n"), "which key it is, and no more");
    let issuer = said("issuer/ca.pem");
    assert!(issuer.contains("issuer, operator at most, no issuer below it\n"), "{issuer}");
    assert!(issuer.contains("issued by  CN=Groundwork agents\n") && issuer.contains("what       CA\n"), "{issuer}");
    let client = said("o/client.pem");
    assert!(client.contains("client, observer\n") && client.contains("(in 23 h)"), "{client}");
    assert!(client.contains("issued by  CN=Groundwork issuer: operator at most\n"), "{client}");
    assert!(show(&dir.path().join("none")).unwrap_err().contains("cannot read"));
}

#[test]
fn the_key_is_not_printed() {
    let authority = Authority::from_dir(root().path()).unwrap();
    assert_eq!(format!("{authority:?}"), "Authority { .. }");
    let given = Given { ca_key_pem: Some(Secret::new("hunter2".to_owned())), ..Given::default() };
    assert!(!format!("{given:?}").contains("hunter2"));
}

#[test]
fn any_file_of_the_pki_is_answered() {
    let dir = root();
    let (ca, key) = (read_in(dir.path(), "ca.pem"), read_in(dir.path(), "ca-key.pem"));
    total::text("ca-bundle", &[&ca, &(ca.clone() + &ca)], |text| bundle(text).ok());
    total::text("ca-key", &[&key], |text| private_key("CA key", text).is_ok());
}
