//! Signatures of requests to S3. Source: AWS, "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)".

use aws_lc_rs::{digest, hmac};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use yasna::models::GeneralizedTime;
use zeroize::Zeroizing;

/// Who asks, and where.
pub(super) struct Keys<'a> {
    pub(super) id: &'a str,
    pub(super) secret: &'a str,
    pub(super) region: &'a str,
}

/// What is signed of a request.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// With the port, if the URL has one.
    pub(super) host: &'a str,
    /// [Encoded](encoded), from the first `/`.
    pub(super) path: &'a str,
    /// [Encoded](query).
    pub(super) query: &'a str,
    /// SHA-256 of the body, hex.
    pub(super) sum: &'a str,
    /// As [`date`] writes it.
    pub(super) date: &'a str,
}

/// The header `Authorization`.
pub(super) fn authorization(keys: &Keys<'_>, request: &Request<'_>) -> String {
    let Request { method, host, path, query, sum, date } = request;
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/s3/aws4_request", keys.region);
    let canonical = format!(
        "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{sum}\nx-amz-date:{date}\n\n{SIGNED}\n{sum}"
    );
    let what = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", self::sum(canonical.as_bytes()));
    let first = Zeroizing::new(format!("AWS4{}", keys.secret));
    let words = [day, keys.region, "s3", "aws4_request", &what];
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
    let mut signature = String::new();
    for word in words {
        let tag = hmac::sign(&key, word.as_bytes());
        signature = hex::encode(tag.as_ref());
        key = hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref());
    }
    format!("AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={SIGNED},Signature={signature}", keys.id)
}

/// `20261127T030000Z`
pub(super) fn date(now: SystemTime) -> String {
    let whole = Duration::from_secs(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    let time = GeneralizedTime::from_datetime((UNIX_EPOCH + whole).into()).to_bytes();
    let time = String::from_utf8_lossy(&time);
    let (day, clock) = time.split_at_checked(8).unwrap_or_default();
    format!("{day}T{clock}")
}

/// SHA-256, hex.
pub(super) fn sum(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// A path or a part of a query, as signatures have it: whatever is not unreserved is encoded, and `/` too unless it is `kept`.
pub(super) fn encoded(text: &str, kept: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.as_bytes().contains(&byte);
        if is_plain {
            all.push(char::from(byte))
        } else {
            all.push_str(&format!("%{byte:02X}"))
        }
        all
    })
}

/// A query whose pairs are in order.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encoded(name, ""), encoded(value, ""))).collect();
    pairs.sort();
    pairs.join("&")
}

const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";

#[cfg(test)]
mod tests {
    use super::*;

    /// Both examples stand in the document, with these keys.
    #[test]
    fn signatures_are_those_of_the_document() {
        let keys = Keys {
            id: "AKIAIOSFODNN7EXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1",
        };
        let nothing = sum(b"");
        let signed = |query: &str| {
            let request = Request {
                method: "GET",
                host: "examplebucket.s3.amazonaws.com",
                path: "/",
                query,
                sum: &nothing,
                date: "20130524T000000Z",
            };
            authorization(&keys, &request)
        };
        assert_eq!(
            signed("lifecycle="),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
        );
        let said = signed(&query(&[("prefix", "J"), ("max-keys", "2")]));
        assert!(said.ends_with("=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"), "{said}");
    }

    #[test]
    fn a_moment_and_a_path_are_written_as_signatures_have_them() {
        assert_eq!(date(UNIX_EPOCH + Duration::from_millis(1_796_000_000_500)), "20261130T005320Z");
        assert_eq!(encoded("/a b/ü~.db", "/"), "/a%20b/%C3%BC~.db");
        assert_eq!(query(&[("prefix", "a/b"), ("list-type", "2")]), "list-type=2&prefix=a%2Fb");
    }
}
