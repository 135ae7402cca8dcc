//! Messages about snapshots of etcd and about certificates to domain types and back. Every value of a request is checked here.

use crate::cluster::{
    FETCHED, NodeCertificate, Object, QuorumPlan, QuorumRecovery, RenewalPlan, Schedule, Scheduled, SnapshotPlan,
    Target, Wanted,
};
use crate::host::etcd::Snapshot;
use agent_proto::{form, v1 as proto};
use std::time::{Duration, SystemTime};
use yasna::models::GeneralizedTime;
use zeroize::Zeroizing;

pub(super) fn plan(request: proto::EtcdSnapshotTakeRequest) -> Result<SnapshotPlan, String> {
    Ok(SnapshotPlan { cluster_id: given(request.cluster_id, "cluster_id")?, path: path(request.path)? })
}

/// Where a snapshot stands: a file on a disk.
pub(super) fn path(path: String) -> Result<String, String> {
    form::file(&path).map_err(|why| format!("path: {path:?} {why}"))?;
    Ok(path)
}

pub(super) fn restore_from(path: String) -> Result<Option<String>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    form::file(&path).map_err(|why| format!("restore_from: {path:?} {why}"))?;
    Ok(Some(path))
}

/// The snapshot that is to be fetched from a bucket; the request names then the file that it becomes.
pub(super) fn object(request: &mut proto::ClusterInitRequest) -> Result<Option<Object>, String> {
    let Some(object) = request.restore_s3.take() else { return Ok(None) };
    if !request.restore_from.is_empty() {
        return Err("restore_s3: it comes in the place of restore_from".to_owned());
    }
    let proto::S3Object {
        endpoint,
        bucket,
        key,
        region,
        path_style,
        access_key_id,
        secret_access_key,
        ca_certificate,
        sha256,
    } = object;
    let secret_access_key = Zeroizing::new(secret_access_key);
    in_order("restore_s3", [&endpoint, &bucket, &region, &access_key_id, &ca_certificate])?;
    form::object_key(&key).map_err(|why| format!("restore_s3.key: {key:?} {why}"))?;
    if !sha256.is_empty() {
        form::sha256(&sha256).map_err(|why| format!("restore_s3.sha256: {sha256:?} {why}"))?;
    }
    if !form::is_secret(&secret_access_key) {
        return Err("restore_s3.secret_access_key: it is missing, or has characters that do not print".to_owned());
    }
    FETCHED.clone_into(&mut request.restore_from);
    let object =
        Object { endpoint, bucket, key, region, path_style, access_key_id, secret_access_key, ca_certificate, sha256 };
    Ok(Some(object))
}

/// What says where a bucket is and who asks.
fn in_order(at: &str, [endpoint, bucket, region, access_key_id, ca_certificate]: [&str; 5]) -> Result<(), String> {
    let ca = if ca_certificate.is_empty() { Ok(()) } else { form::certificates(ca_certificate) };
    let checks = [
        ("endpoint", endpoint, form::s3_endpoint(endpoint)),
        ("bucket", bucket, form::bucket(bucket)),
        ("region", region, form::region(region)),
        ("access_key_id", access_key_id, form::access_key(access_key_id)),
        ("ca_certificate", ca_certificate, ca),
    ];
    for (name, value, verdict) in checks {
        verdict.map_err(|why| format!("{at}.{name}: {value:?} {why}"))?;
    }
    Ok(())
}

pub(super) fn quorum(request: proto::QuorumRecoverRequest) -> Result<QuorumPlan, String> {
    let proto::QuorumRecoverRequest { cluster_id, incident, stand_down } = request;
    form::incident(&incident).map_err(|why| format!("incident: {incident:?} {why}"))?;
    Ok(QuorumPlan { cluster_id: given(cluster_id, "cluster_id")?, incident, stand_down })
}

pub(super) fn recovery(recovery: QuorumRecovery) -> proto::QuorumRecovery {
    let QuorumRecovery { incident, unfinished } = recovery;
    proto::QuorumRecovery { incident, unfinished }
}

pub(super) fn snapshot(snapshot: Snapshot) -> proto::EtcdSnapshot {
    let Snapshot { size, sha256, revision, taken } = snapshot;
    proto::EtcdSnapshot { size, sha256, revision, taken: moment(taken) }
}

/// RFC 3339.
fn moment(time: SystemTime) -> String {
    let general = GeneralizedTime::from_datetime(time.into());
    let time = general.datetime();
    let (date, clock) =
        ((time.year(), u8::from(time.month()), time.day()), (time.hour(), time.minute(), time.second()));
    format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", date.0, date.1, date.2, clock.0, clock.1, clock.2)
}

pub(super) fn schedule(request: proto::EtcdSnapshotScheduleRequest) -> Result<(String, Option<Wanted>), String> {
    let proto::EtcdSnapshotScheduleRequest { cluster_id, snapshots, s3_secret_access_key } = request;
    let secret = Zeroizing::new(s3_secret_access_key);
    let cluster_id = given(cluster_id, "cluster_id")?;
    let Some(proto::EtcdSnapshots { schedule, keep, directory, s3, .. }) = snapshots else {
        return Ok((cluster_id, None));
    };
    form::calendar(&schedule).map_err(|why| format!("snapshots.schedule: {schedule:?} {why}"))?;
    form::file(&directory).map_err(|why| format!("snapshots.directory: {directory:?} {why}"))?;
    if keep == 0 {
        return Err("snapshots.keep: one at least".to_owned());
    }
    let s3 = s3.map(target).transpose()?;
    if s3.is_some() && !form::is_secret(&secret) {
        return Err("s3_secret_access_key: it is missing, or has characters that do not print".to_owned());
    }
    Ok((cluster_id, Some(Wanted { schedule: Schedule { schedule, keep, directory, s3 }, secret })))
}

fn target(target: proto::S3Target) -> Result<Target, String> {
    let proto::S3Target {
        endpoint,
        bucket,
        prefix,
        region,
        path_style,
        access_key_id,
        secret_version,
        ca_certificate,
        keep,
    } = target;
    in_order("snapshots.s3", [&endpoint, &bucket, &region, &access_key_id, &ca_certificate])?;
    if !prefix.is_empty() {
        form::object_prefix(&prefix).map_err(|why| format!("snapshots.s3.prefix: {prefix:?} {why}"))?;
    }
    if keep == 0 {
        return Err("snapshots.s3.keep: one at least".to_owned());
    }
    Ok(Target { endpoint, bucket, prefix, region, path_style, access_key_id, secret_version, ca_certificate, keep })
}

pub(super) fn scheduled(scheduled: Scheduled) -> proto::EtcdSnapshots {
    let Scheduled { schedule: Schedule { schedule, keep, directory, s3 }, active, failure } = scheduled;
    let s3 = s3.map(|target| {
        let Target {
            endpoint,
            bucket,
            prefix,
            region,
            path_style,
            access_key_id,
            secret_version,
            ca_certificate,
            keep,
        } = target;
        proto::S3Target {
            endpoint,
            bucket,
            prefix,
            region,
            path_style,
            access_key_id,
            secret_version,
            ca_certificate,
            keep,
        }
    });
    proto::EtcdSnapshots { schedule, keep, directory, active, failure: plain::line(&failure).into_owned(), s3 }
}

pub(super) fn certificate(certificate: NodeCertificate) -> proto::NodeCertificate {
    let NodeCertificate { name, ends, until, authority } = certificate;
    proto::NodeCertificate { name, ends, authority, until }
}

pub(super) fn renewal(request: proto::CertificatesRenewRequest) -> Result<RenewalPlan, String> {
    let proto::CertificatesRenewRequest { cluster_id, node_name, within_s } = request;
    form::node_name(&node_name).map_err(|why| format!("node_name: {node_name:?} {why}"))?;
    Ok(RenewalPlan { cluster_id: given(cluster_id, "cluster_id")?, node_name, within: Duration::from_secs(within_s) })
}

fn given(text: String, name: &str) -> Result<String, String> {
    if text.is_empty() { Err(format!("{name} is missing")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minio() -> proto::S3Target {
        proto::S3Target {
            endpoint: "https://minio.example.org:9000".into(),
            bucket: "etcd".into(),
            region: "us-east-1".into(),
            access_key_id: "groundwork".into(),
            keep: 7,
            ..Default::default()
        }
    }

    #[test]
    fn a_moment_is_told_to_the_second() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_796_000_000_500);
        assert_eq!(moment(time), "2026-11-30T00:53:20Z");
    }

    #[test]
    fn a_snapshot_in_a_bucket_becomes_a_file_that_the_cluster_begins_with() {
        let good = || proto::S3Object {
            endpoint: "https://minio.example.org:9000".into(),
            bucket: "etcd".into(),
            key: "prod/cp-1/etcd-20261127030000Z.db".into(),
            region: "us-east-1".into(),
            access_key_id: "groundwork".into(),
            secret_access_key: "a-secret".into(),
            ..Default::default()
        };
        let ask = |restore_s3: proto::S3Object, restore_from: &str| {
            let restore_s3 = Some(restore_s3);
            let mut request =
                proto::ClusterInitRequest { restore_s3, restore_from: restore_from.into(), ..Default::default() };
            object(&mut request).map(|object| (object.unwrap().key, request.restore_from))
        };
        assert_eq!(ask(good(), "").unwrap(), ("prod/cp-1/etcd-20261127030000Z.db".into(), FETCHED.to_owned()));
        let (upper, nobody) = ("A".repeat(64), String::new());
        for (object, from, name) in [
            (good(), "/a.db", "restore_s3"),
            (proto::S3Object { key: "/a".into(), ..good() }, "", "restore_s3.key"),
            (proto::S3Object { bucket: "A".into(), ..good() }, "", "restore_s3.bucket"),
            (proto::S3Object { sha256: upper, ..good() }, "", "restore_s3.sha256"),
            (proto::S3Object { secret_access_key: nobody, ..good() }, "", "restore_s3.secret_access_key"),
        ] {
            let said = ask(object, from).unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
    }

    #[test]
    fn a_request_that_lacks_something_is_refused_by_name() {
        let good = proto::EtcdSnapshots {
            schedule: "daily".into(),
            keep: 7,
            directory: "/var/backups".into(),
            ..Default::default()
        };
        let ask = |snapshots: proto::EtcdSnapshots| {
            schedule(proto::EtcdSnapshotScheduleRequest {
                cluster_id: "sha256:00".into(),
                snapshots: Some(snapshots),
                s3_secret_access_key: String::new(),
            })
            .map(|(_, wanted)| wanted.is_some())
        };
        assert!(ask(good.clone()).is_ok());
        for (snapshots, name) in [
            (proto::EtcdSnapshots { schedule: "daily\n[Service]".into(), ..good.clone() }, "snapshots.schedule"),
            (proto::EtcdSnapshots { keep: 0, ..good.clone() }, "snapshots.keep"),
            (proto::EtcdSnapshots { directory: "backups".into(), ..good.clone() }, "snapshots.directory"),
            (proto::EtcdSnapshots { s3: Some(proto::S3Target::default()), ..good.clone() }, "snapshots.s3.endpoint"),
            (proto::EtcdSnapshots { s3: Some(minio()), ..good }, "s3_secret_access_key"),
        ] {
            let said = ask(snapshots).unwrap_err();
            assert!(said.starts_with(name), "{said}");
        }
        for bad in ["", "etcd.db", "/proc/kcore", "/a/../b", "/a\nb"] {
            assert!(path(bad.to_owned()).unwrap_err().starts_with("path"), "{bad:?}");
        }
        assert_eq!(restore_from(String::new()), Ok(None));
        assert!(object(&mut proto::ClusterInitRequest::default()).unwrap().is_none());
        let bad = proto::CertificatesRenewRequest { cluster_id: "a".into(), node_name: "--help".into(), within_s: 1 };
        assert!(renewal(bad).unwrap_err().starts_with("node_name"));
    }
}
