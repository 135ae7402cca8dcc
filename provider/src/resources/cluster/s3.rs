//! A bucket that snapshots of etcd go to.

use crate::agents::{S3Target, form};
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
        vec![
            required(
                "endpoint",
                endpoint,
                "Where the server is, as the control planes reach it: `https://minio.example.org:9000`, `https://s3.eu-central-1.amazonaws.com`. No proxy \
                 is used.",
            )
            .check(form::s3_endpoint),
            required("bucket", bucket, "Its name. It must be there.").check(form::bucket),
            optional("prefix", prefix, "What the names of all objects begin with: `prod/etcd`. None by default.")
                .check(form::object_prefix),
            optional("region", region, "Where it is, by the server's name for it.").default(REGION).check(form::region),
            optional(
                "path_style",
                path_style,
                "Whether the bucket stands in the path of a URL. With `false` it stands before the server's name.",
            )
            .default(true),
            required("access_key_id", access_key_id, "Of the access key. It needs `s3:PutObject`, `s3:DeleteObject` and `s3:ListBucket`.")
                .check(form::access_key),
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
            optional(
                "ca_certificate",
                ca_certificate,
                "Certificates of CAs in PEM that the server is believed by, besides those that the machine believes.",
            )
            .check(form::certificates),
            optional("keep", keep, "How many of each control plane stay there. Default: as many as `keep` of `snapshots`.")
                .check(at_least(1)),
        ]
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
