//! A running lab's control socket: JSON over HTTP, as `tests/lab/lab/control.py` says.

use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Where a lab answers.
pub(crate) struct Control {
    socket: PathBuf,
}

impl Control {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf() }
    }

    /// The answer to a verb, or why there is none.
    pub(crate) fn ask(&self, verb: &str, values: &Value) -> Result<Value, String> {
        let answer = self.exchange(verb, &values.to_string()).map_err(|error| format!("no lab answers: {error}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer of a lab: {answer}"))?;
        let body: Value = serde_json::from_str(body).map_err(|error| format!("{error}: {body}"))?;
        if head.split_whitespace().nth(1) == Some("200") {
            return Ok(body);
        }
        Err(body["error"].as_str().unwrap_or(head).to_owned())
    }

    /// HTTP/1.0: one exchange, whose answer ends with the connection.
    fn exchange(&self, verb: &str, body: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        write!(stream, "POST /{verb} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
