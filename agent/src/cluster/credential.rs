//! A certificate for somebody's key, by which the API server knows a user for a while.
//!
//! The key stays with whoever asks. The cluster's CA signs, here and at once: no API server need answer, and nothing is left behind.
//! Kubernetes knows no revocation, so that a short life is all the protection there is.

use super::Distribution;
use super::issue::{self, Issuer, Wanted};
use super::kube::ADMIN;
use super::renewal::embedded;
use super::status::{ClusterError, cluster_id_of, endpoint};
use crate::host::Host;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::time::{Duration, SystemTime};
use trust::{Certificate, pem};
use zeroize::Zeroizing;

/// Who is to be known, and for how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessPlan {
    /// The cluster that is meant.
    pub cluster_id: String,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Vec<u8>,
    /// Name of the user.
    pub user: String,
    /// Empty: those of the administrator.
    pub groups: Vec<String>,
    /// Life of the certificate.
    pub ttl: Duration,
}

/// What was made. Nothing of it is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// PEM
    pub certificate: String,
    /// The cluster CA's, PEM.
    pub ca_certificate: String,
    /// `host:port`
    pub endpoint: String,
}

/// Has the cluster's CA sign a certificate.
///
/// # Errors
/// When this is no control plane of that cluster, or its CA's key is elsewhere.
pub fn credential(host: &dyn Host, plan: &AccessPlan) -> Result<Access, ClusterError> {
    let endpoint = endpoint(host)?;
    let own = Distribution::here(host).map_err(ClusterError::Host)?;
    let ca_certificate = own.authority(host).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let ca_certificate = String::from_utf8_lossy(&ca_certificate).into_owned();
    let here = cluster_id_of(ca_certificate.as_bytes())?;
    if here != plan.cluster_id {
        return Err(ClusterError::OtherCluster { here });
    }
    if !plan.public_key.starts_with(&P256) || plan.public_key.len() != P256.len() + POINT {
        return Err(ClusterError::PublicKey);
    }
    let [place, place_of_key] = own.authority_of_clients();
    let ca = host.text(place).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane)?;
    let ca = certificate(&ca)?;
    let key = host.read(place_of_key).map_err(ClusterError::Host)?.map(Zeroizing::new).ok_or(ClusterError::NoKey)?;
    let key = std::str::from_utf8(&key).ok().and_then(|text| KeyPair::from_pem(text).ok());
    let key = key.filter(|key| key.subject_public_key_info() == ca.public_key());
    let key = key.ok_or_else(|| ClusterError::Authority(format!("{place_of_key} is not its key")))?;
    let groups = if plan.groups.is_empty() { administrators(host, own)? } else { plan.groups.clone() };
    let now = host.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let not_after = (now + plan.ttl.as_secs()).min(ca.not_after);
    let life =
        [now.saturating_sub(SKEW.as_secs()), not_after].map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at));
    let mut serial = [0; 16];
    serial.iter_mut().zip(trust::nonce()).for_each(|(own, random)| *own = random);
    let wanted = Wanted { user: &plan.user, groups: &groups, public_key: &plan.public_key, life, serial };
    let issuer = Issuer { name: &ca.subject_der, key: &key };
    let made = issue::issue(&issuer, &wanted).map_err(ClusterError::Authority)?;
    let made = CertificateDer::from(made);
    tracing::info!(
        user = plan.user,
        groups = groups.join(", "),
        not_after,
        "made a client certificate of the cluster's CA"
    );
    Ok(Access { certificate: pem(&made), ca_certificate, endpoint })
}

/// The groups in the administrator's own certificate: which ones they are has changed with kubeadm's versions.
fn administrators(host: &dyn Host, own: Distribution) -> Result<Vec<String>, ClusterError> {
    let text = |path| host.text(path).map_err(ClusterError::Host)?.ok_or(ClusterError::NotControlPlane);
    let pem = match own {
        Distribution::Kubeadm => {
            let pem = embedded(text(ADMIN)?.as_bytes()).and_then(|pem| String::from_utf8(pem).ok());
            pem.ok_or(ClusterError::Groups)?
        }
        Distribution::K3s(own) => text(own.places().administrator)?,
    };
    let groups = certificate(&pem).map_err(|_| ClusterError::Groups)?.organizations;
    if groups.is_empty() { Err(ClusterError::Groups) } else { Ok(groups) }
}

fn certificate(pem: &str) -> Result<Certificate, ClusterError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|error| ClusterError::Authority(error.to_string()))?;
    Certificate::read(&der).map_err(|error| ClusterError::Authority(error.to_string()))
}

/// Clocks of API servers differ by less.
const SKEW: Duration = Duration::from_secs(300);
/// What a SubjectPublicKeyInfo of P-256 begins with, before the point. Source: RFC 5480, section 2.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point.
const POINT: usize = 65;

#[cfg(test)]
mod tests {
    use super::super::kube::CA;
    use super::*;
    use crate::host::fake::Fake;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyUsagePurpose, SignatureAlgorithm};
    use rustls::pki_types::UnixTime;
    use trust::{Clock, Usage};

    const CA_KEY: &str = "/etc/kubernetes/pki/ca.key";

    /// A control plane of a CA with a name that is easily written otherwise.
    struct Scene {
        host: Fake,
        ca: CertificateDer<'static>,
        key: KeyPair,
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
    }

    impl Scene {
        fn new(kind: &'static SignatureAlgorithm) -> Self {
            let key = KeyPair::generate_for(kind).unwrap();
            let mut own = params();
            let printable = rcgen::DnValue::PrintableString("Example".try_into().unwrap());
            own.distinguished_name.push(DnType::OrganizationName, printable);
            own.distinguished_name.push(DnType::CommonName, "kubernetes");
            own.not_before = SystemTime::UNIX_EPOCH.into();
            own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            own.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
            let ca = own.self_signed(&key).unwrap();
            let issuer = rcgen::Issuer::new(own, &key);
            let mut administrator = params();
            administrator.distinguished_name.push(DnType::OrganizationName, "kubeadm:cluster-admins");
            let administrator = administrator.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
            let host = Fake::template();
            host.put(CA, &ca.pem());
            host.put(CA_KEY, &key.serialize_pem());
            let data = STANDARD.encode(administrator.pem());
            host.put(
                ADMIN,
                &format!("clusters:\n- cluster:\n    server: https://10.99.0.11:6443\nusers:\n- user:\n    client-certificate-data: {data}\n"),
            );
            Self { host, ca: ca.der().clone(), key }
        }

        fn plan(&self) -> AccessPlan {
            let cluster_id = trust::Pin::of(&self.key.subject_public_key_info()).to_string();
            let public_key = KeyPair::generate().unwrap().subject_public_key_info();
            AccessPlan {
                cluster_id,
                public_key,
                user: "alice".into(),
                ttl: Duration::from_secs(600),
                ..Default::default()
            }
        }

        fn now(&self) -> UnixTime {
            UnixTime::since_unix_epoch(self.host.now().duration_since(SystemTime::UNIX_EPOCH).unwrap())
        }

        fn ask(&self, plan: &AccessPlan) -> Result<Access, String> {
            credential(&self.host, plan).map_err(|error| crate::chain::chain(&error))
        }
    }

    #[test]
    fn a_certificate_has_its_user_its_groups_and_its_end() {
        for kind in [&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let scene = Scene::new(kind);
            let groups = ["example:viewers", "example:überall", "c"].map(str::to_owned).to_vec();
            let plan = AccessPlan { groups: groups.clone(), ..scene.plan() };
            let access = scene.ask(&plan).unwrap();
            assert_eq!(access.endpoint, "10.99.0.11:6443");
            let der = CertificateDer::from_pem_slice(access.certificate.as_bytes()).unwrap();
            let read = Certificate::read(&der).unwrap();
            assert_eq!(read.organizations, groups);
            assert!(read.subject.contains("CN=alice"), "{}", read.subject);
            assert_eq!(read.public_key(), plan.public_key);
            let now = scene.now().as_secs();
            assert!(read.not_after == now + 600 && read.not_before <= now, "{read:?}");
            assert!(!read.is_ca && read.is_for(Usage::Client));
            // As a server of that CA verifies it.
            let clock = Clock { now: scene.now(), tolerance: None, may_be_slow: false };
            trust::verify(&[der], std::slice::from_ref(&scene.ca), Usage::Client, clock).unwrap();
        }
    }

    #[test]
    fn without_groups_it_has_those_of_the_administrator() {
        let scene = Scene::new(&rcgen::PKCS_ECDSA_P256_SHA256);
        let access = scene.ask(&scene.plan()).unwrap();
        let der = CertificateDer::from_pem_slice(access.certificate.as_bytes()).unwrap();
        assert_eq!(Certificate::read(&der).unwrap().organizations, ["kubeadm:cluster-admins"]);
        scene.host.put(ADMIN, "clusters:\n- cluster:\n    server: https://10.99.0.11:6443\n");
        let said = scene.ask(&scene.plan()).unwrap_err();
        assert!(said.contains("names no group"), "{said}");
        let named = AccessPlan { groups: vec!["a".into()], ..scene.plan() };
        scene.ask(&named).unwrap();
    }

    #[test]
    fn nobody_else_is_signed_for() {
        let scene = Scene::new(&rcgen::PKCS_ECDSA_P256_SHA256);
        let refused = |plan: AccessPlan| scene.ask(&plan).unwrap_err();
        let said = refused(AccessPlan { cluster_id: "sha256:00".into(), ..scene.plan() });
        assert!(said.contains("a control plane of another cluster"), "{said}");
        let said = refused(AccessPlan { public_key: vec![0x30, 0], ..scene.plan() });
        assert!(said.contains("P-256"), "{said}");
        scene.host.put(CA_KEY, &KeyPair::generate().unwrap().serialize_pem());
        assert!(refused(scene.plan()).contains("is not its key"));
        let plan = scene.plan();
        let clean = credential(&Fake::template(), &plan).unwrap_err();
        assert!(matches!(clean, ClusterError::NotControlPlane), "{clean}");
    }
}
