//! A bucket that snapshots of etcd go to, and one of them in it that a cluster begins with.

use crate::agents::{S3Object, S3Target, form};
use tf::check::at_least;
use tf::{Attr, Model, Row, Secret, optional, required};

/// `s3` of `snapshots`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct S3 {
    endpoint: Attr<String>,
    bucket: Attr<String>,
    prefix: Attr<String>,
    region: Attr<String>,
    path_style: Attr<bool>,
    access_key_id: Attr<String>,
    pub(super) secret_access_key_wo: Attr<Secret<String>>,
    secret_access_key_wo_version: Attr<i64>,
    ca_certificate: Attr<String>,
    keep: Attr<i64>,
}

impl Model for S3 {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            endpoint,
            bucket,
            prefix,
            region,
            path_style,
            access_key_id,
            secret_access_key_wo,
            secret_access_key_wo_version,
            ca_certificate,
            keep,
        } = self;
        let own = [
            optional("prefix", prefix, "What the names of all objects begin with: `prod/etcd`. None by default.")
                .check(form::object_prefix),
            access_key(access_key_id, "`s3:PutObject`, `s3:DeleteObject` and `s3:ListBucket`"),
            required(
                "secret_access_key_wo",
                secret_access_key_wo,
                "The other half of the access key. It is kept out of state and plans, and stands on the control planes in a file of root's.",
            )
            .sensitive()
            .write_only(),
            optional(
                "secret_access_key_wo_version",
                secret_access_key_wo_version,
                "A number for `secret_access_key_wo`: another one has the key brought to the control planes again.",
            )
            .default(1),
            optional("keep", keep, "How many of each control plane stay there. Default: as many as `keep` of `snapshots`.")
                .check(at_least(1)),
        ];
        place((endpoint, bucket), (region, path_style), ca_certificate).into_iter().chain(own).collect()
    }
}

/// `s3` of `restore_from`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object {
    pub(super) endpoint: Attr<String>,
    pub(super) bucket: Attr<String>,
    pub(super) key: Attr<String>,
    pub(super) region: Attr<String>,
    pub(super) path_style: Attr<bool>,
    pub(super) access_key_id: Attr<String>,
    pub(super) secret_access_key_wo: Attr<Secret<String>>,
    pub(super) ca_certificate: Attr<String>,
    pub(super) sha256: Attr<String>,
}

impl Model for Object {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self {
            endpoint,
            bucket,
            key,
            region,
            path_style,
            access_key_id,
            secret_access_key_wo,
            ca_certificate,
            sha256,
        } = self;
        let own = [
            required(
                "key",
                key,
                "Which object: `prod/cp-1/etcd-20261127030000Z.db`, as `snapshots` names them, with the host name of the control plane that sent it.",
            )
            .check(form::object_key),
            access_key(access_key_id, "`s3:GetObject`"),
            required(
                "secret_access_key_wo",
                secret_access_key_wo,
                "The other half of the access key. It is kept out of state and plans, and no machine keeps it.",
            )
            .sensitive()
            .write_only(),
            optional(
                "sha256",
                sha256,
                "SHA-256 that the object must have, or the database in it, as `sha256` of `groundwork_etcd_snapshot` tells it: 64 hex digits. The sum \
                 that etcd writes behind the database is compared in any case.",
            )
            .check(form::sha256),
        ];
        place((endpoint, bucket), (region, path_style), ca_certificate).into_iter().chain(own).collect()
    }
}

/// Where a bucket is, and by whom its server is believed.
fn place<'a>(
    (endpoint, bucket): (&'a mut Attr<String>, &'a mut Attr<String>),
    (region, path_style): (&'a mut Attr<String>, &'a mut Attr<bool>),
    ca_certificate: &'a mut Attr<String>,
) -> [Row<'a>; 5] {
    [
        required(
            "endpoint",
            endpoint,
            "Where the server is, as the control planes reach it: `https://minio.example.org:9000`, `https://s3.eu-central-1.amazonaws.com`. No proxy \
             is used.",
        )
        .check(form::s3_endpoint),
        required("bucket", bucket, "Its name. It must be there.").check(form::bucket),
        optional("region", region, "Where it is, by the server's name for it.").default(REGION).check(form::region),
        optional(
            "path_style",
            path_style,
            "Whether the bucket stands in the path of a URL. With `false` it stands before the server's name.",
        )
        .default(true),
        optional(
            "ca_certificate",
            ca_certificate,
            "Certificates of CAs in PEM that the server is believed by, besides those that the machine believes.",
        )
        .check(form::certificates),
    ]
}

fn access_key<'a>(id: &'a mut Attr<String>, needs: &str) -> Row<'a> {
    required("access_key_id", id, format!("Of the access key. It needs {needs}.")).check(form::access_key)
}

impl Object {
    /// As an agent is told of it.
    pub(super) fn source(&self) -> S3Object {
        S3Object {
            endpoint: self.endpoint.or(""),
            bucket: self.bucket.or(""),
            key: self.key.or(""),
            region: self.region.or(REGION),
            path_style: self.path_style.or(true),
            access_key_id: self.access_key_id.or(""),
            secret_access_key: self.secret_access_key_wo.or("").expose().clone(),
            ca_certificate: self.ca_certificate.or(""),
            sha256: self.sha256.or(""),
        }
    }

    /// For people.
    pub(super) fn called(&self) -> String {
        let [key, bucket, endpoint] = [&self.key, &self.bucket, &self.endpoint].map(|one| one.or("(not known yet)"));
        format!("{key} in the bucket {bucket} of {endpoint}")
    }

    /// Without what no state keeps.
    pub(super) fn of_state(&self) -> Self {
        Self { secret_access_key_wo: Attr::Null, ..self.clone() }
    }
}

impl S3 {
    /// As agents are told of it.
    pub(super) fn target(&self, keep: u32) -> S3Target {
        S3Target {
            endpoint: self.endpoint.or(""),
            bucket: self.bucket.or(""),
            prefix: self.prefix.or(""),
            region: self.region.or(REGION),
            path_style: self.path_style.or(true),
            access_key_id: self.access_key_id.or(""),
            secret_version: self.secret_access_key_wo_version.or(1),
            ca_certificate: self.ca_certificate.or(""),
            keep: self.keep.get().map_or(keep, |keep| u32::try_from(*keep).unwrap_or(u32::MAX)),
        }
    }
}

const REGION: &str = "us-east-1";
