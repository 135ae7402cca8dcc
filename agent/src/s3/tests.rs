//! Answers of servers: read, told, and written into files.

use super::*;
use tokio::net::TcpListener;

const LIST: &str = "<?xml version=\"1.0\"?><ListBucketResult><Name>etcd</Name><IsTruncated>true</IsTruncated>\
                    <Contents><Key>prod/cp-1/a&amp;b.db</Key><Size>3</Size></Contents><Contents><Key>prod/cp-1/c.db</Key></Contents>\
                    <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken></ListBucketResult>";

#[test]
fn keys_and_where_the_next_begin_are_read() {
    assert_eq!(all(LIST, "Key"), ["prod/cp-1/a&b.db", "prod/cp-1/c.db"]);
    assert_eq!(all(LIST, "NextContinuationToken"), ["1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="]);
    total::text("s3-list", &[LIST], |text| all(text, "Key"));
}

#[test]
fn a_refusal_is_told_in_the_servers_words() {
    let text = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
    let said = refusal(StatusCode::NOT_FOUND, text);
    assert_eq!(said, "404 Not Found: NoSuchBucket: The specified bucket does not exist");
    assert_eq!(refusal(StatusCode::BAD_GATEWAY, "<html>\u{1b}"), "502 Bad Gateway");
}

/// What becomes of an answer that is fetched, and what is left in the file.
async fn fetched(answer: &str) -> (Result<u64, String>, Option<String>) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bucket = Bucket {
        endpoint: format!("http://{}", server.local_addr().unwrap()),
        name: "etcd".to_owned(),
        region: "us-east-1".to_owned(),
        path_style: true,
        access_key_id: "groundwork".to_owned(),
        secret_access_key: Zeroizing::new("a-secret".to_owned()),
        ca_certificate: String::new(),
    };
    let folder = tempfile::tempdir().unwrap();
    let (to, mut seen) = (folder.path().join("it.db"), Vec::new());
    std::os::unix::fs::symlink("/nowhere", &to).unwrap();
    let serving = async {
        let (mut asked, _) = server.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let read = asked.read(&mut request).await.unwrap();
        asked.write_all(answer.as_bytes()).await.unwrap();
        asked.shutdown().await.unwrap();
        String::from_utf8(request[..read].to_vec()).unwrap()
    };
    let mut show = |piece: &[u8]| seen.extend_from_slice(piece);
    let (got, asked) = tokio::join!(bucket.get("prod/cp 1.db", &to, &mut show), serving);
    assert!(asked.starts_with("GET /etcd/prod/cp%201.db HTTP/1.1\r\n") && !asked.contains("a-secret"), "{asked}");
    let left = std::fs::read_to_string(&to).ok();
    assert!(left.is_none() || left.as_deref() == std::str::from_utf8(&seen).ok());
    (got, left)
}

#[tokio::test]
async fn an_object_becomes_a_file_whole_or_not_at_all() {
    let (got, left) = fetched("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde").await;
    assert_eq!((got, left.as_deref()), (Ok(5), Some("abcde")));
    let (got, left) = fetched("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcde").await;
    let why = got.unwrap_err();
    assert!(why.starts_with("etcd of http://127.0.0.1:") && why.contains("after 5 bytes"), "{why}");
    assert_eq!(left, None);
    let text = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
    let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{text}", text.len());
    let (got, left) = fetched(&answer).await;
    let why = got.unwrap_err();
    assert!(why.ends_with("404 Not Found: NoSuchKey: The specified key does not exist."), "{why}");
    assert_eq!(left, None);
}
