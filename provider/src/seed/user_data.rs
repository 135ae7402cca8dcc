//! The user's own user-data: what cloud-init takes it for, and how it stands beside ours in one document.
//!
//! cloud-init tells a document's kind by how it begins, a MIME document's parts by their types. A single document goes into a part of
//! type `text/plain`, which cloud-init looks at as it would at the document alone; the parts of a MIME document become parts of ours.
//! Everything travels as base64: cloud-init takes text of other encodings that is not ASCII for Latin-1, and then for nothing.
//! Sources: RFC 2045, RFC 2046; cloud-init 22.4 to 25.2, its modules `user_data` and `handlers`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One part of a multipart document: its head without the empty line, and its body as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    head: String,
    body: String,
}

impl Part {
    /// A part of ours.
    pub(super) fn new(kind: &str, more: &str, text: &str) -> Self {
        let head = format!(
            "Content-Type: {kind}; charset=\"utf-8\"\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n{more}"
        );
        Self { head, body: encoded(text) }
    }

    fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    /// `text/cloud-config`; what has no type is plain text.
    fn kind(&self) -> String {
        let kind = self.header("Content-Type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if kind.contains('/') { kind } else { PLAIN.to_owned() }
    }

    /// What the body says, if it travels as it is.
    fn text(&self) -> Option<&str> {
        let encoding = self.header("Content-Transfer-Encoding").unwrap_or_default().to_ascii_lowercase();
        AS_IT_IS.contains(&encoding.as_str()).then_some(self.body.as_str())
    }

    /// The part in an encoding that carries every character.
    fn safe(self) -> Self {
        if self.body.is_ascii() || self.text().is_none() {
            return self;
        }
        let mut head = String::new();
        for field in fields(&self.head).filter(|field| !is_named(field, "Content-Transfer-Encoding")) {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("Content-Transfer-Encoding: base64\r\n");
        Self { head, body: encoded(&self.body) }
    }
}

/// The document of all parts.
pub(super) fn document(parts: &[Part]) -> String {
    let mut boundary = "==groundwork-seed==".to_owned();
    while parts.iter().any(|part| part.body.contains(&boundary)) {
        boundary.push('=');
    }
    let mut text = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\nMIME-Version: 1.0\r\n\r\n");
    for Part { head, body } in parts {
        text.push_str(&format!("--{boundary}\r\n{head}\r\n{body}\r\n"));
    }
    text + &format!("--{boundary}--\r\n")
}

/// The user's document as parts of ours. What is no MIME document, or a damaged one, is left to cloud-init to judge.
pub(super) fn parts(text: &str) -> Vec<Part> {
    let whole = || vec![Part::new(PLAIN, "", text)];
    if !is_mime(text) {
        return whole();
    }
    leaves(text, 0).map_or_else(|_| whole(), |leaves| leaves.into_iter().map(Part::safe).collect())
}

/// Whether cloud-init will do something with it. The message completes "`user_data` …".
pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.starts_with('\u{feff}') {
        return Err("must not begin with a byte order mark: save the file as UTF-8 without one".to_owned());
    }
    if is_mime(text) {
        return check_mime(text);
    }
    if text.trim_start().starts_with("H4sI") || looks_encoded(text) {
        return Err(
            "must be plain text, and this is base64: give `gzip = false` and `base64_encode = false` to the data source \
             `cloudinit_config`, or decode it"
                .to_owned(),
        );
    }
    if has_head(text) {
        return Err(
            "must say `MIME-Version: 1.0` in its head, or cloud-init does not take it for a MIME document".to_owned()
        );
    }
    check_text(text)
}

/// A document, or a part of one, that is known by how it begins.
fn check_text(text: &str) -> Result<(), String> {
    let start = text.trim_start().to_lowercase();
    let first = text.trim_start().lines().next().unwrap_or_default();
    if start.starts_with("#upstart-job") {
        return Err("must not be an `#upstart-job`: cloud-init runs none any more".to_owned());
    }
    if !STARTS.iter().any(|known| start.starts_with(known)) {
        let known = STARTS.map(|start| format!("`{start}`")).join(", ");
        return Err(format!(
            "must begin with what tells cloud-init its kind, one of {known}; this begins with {:?}",
            first.chars().take(40).collect::<String>()
        ));
    }
    if first.starts_with("#!") && text.trim_start().split('\n').next().is_some_and(|line| line.ends_with('\r')) {
        return Err("must not have Windows line ends: no system finds the interpreter of such a script".to_owned());
    }
    let template = start.strip_prefix(JINJA).map(str::trim_start);
    let rendered = |text: &str| text.starts_with(['{', '#']) && !text.starts_with("#include");
    if template.is_some_and(|text| !rendered(text) || OUT_OF_TEMPLATES.iter().any(|kind| text.starts_with(kind))) {
        return Err(
            "must be a template of a `#cloud-config`, a script or a `#cloud-boothook`: cloud-init renders no other"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_mime(text: &str) -> Result<(), String> {
    let parts = leaves(text, 0)?;
    if parts.is_empty() {
        return Err("must have a part, and this MIME document has none".to_owned());
    }
    let own_kinds = parts.iter().any(|part| part.kind() == "text/part-handler" || part.text().is_none());
    for (number, part) in (1..).zip(&parts) {
        let kind = part.kind();
        let bare = matches!(kind.as_str(), PLAIN | "text/x-not-multipart");
        let known = bare || KINDS.contains(&kind.as_str()) || kind.contains("gzip") || kind.contains("compress");
        if !known && !own_kinds {
            return Err(format!("must have parts of types that cloud-init knows; part {number} is `{kind}`"));
        }
        if bare && let Some(text) = part.text() {
            check_text(text).map_err(|why| format!("{why} (in part {number} of the MIME document)"))?;
        }
    }
    Ok(())
}

/// cloud-init's own rule, but for a head at the beginning: a script that writes a mail is none.
fn is_mime(text: &str) -> bool {
    let start: String = text.chars().take(4096).collect::<String>().to_ascii_lowercase();
    has_head(text) && start.contains("mime-version:")
}

fn has_head(text: &str) -> bool {
    let name = text.split_once(':').map_or("", |(name, _)| name);
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    text.starts_with("From ")
        || (named && ["content", "mime"].iter().any(|word| name.to_ascii_lowercase().starts_with(word)))
}

fn looks_encoded(text: &str) -> bool {
    let bare: String = text.split_whitespace().collect();
    bare.len() > 40 && STANDARD.decode(&bare).is_ok()
}

/// The parts of a MIME document that are not documents of parts themselves.
fn leaves(text: &str, depth: usize) -> Result<Vec<Part>, String> {
    let (head, body) = split(text);
    let kind = header(&head, "Content-Type").unwrap_or_default();
    if !kind.trim_start().to_ascii_lowercase().starts_with("multipart/") {
        return Ok(vec![Part { head, body: body.to_owned() }]);
    }
    if depth > DEEPEST {
        return Err("must not nest its MIME parts so deep".to_owned());
    }
    let boundary = boundary(&kind).ok_or("must name the `boundary` of its parts, as every multipart document does")?;
    let (start, end) = (format!("--{boundary}"), format!("--{boundary}--"));
    let mut parts: Vec<Vec<&str>> = Vec::new();
    for line in body.split('\n') {
        match line.trim_end() {
            delimiter if delimiter == end => {
                let found: Result<Vec<_>, _> = parts.iter().map(|lines| leaves(&joined(lines), depth + 1)).collect();
                return Ok(found?.concat());
            }
            delimiter if delimiter == start => parts.push(Vec::new()),
            _ => parts.last_mut().map_or((), |lines| lines.push(line)),
        }
    }
    Err(format!("must end its parts with the line `{end}`, which is missing"))
}

/// The line end before a delimiter belongs to the delimiter.
fn joined(lines: &[&str]) -> String {
    let text = lines.join("\n");
    text.strip_suffix('\r').map(str::to_owned).unwrap_or(text)
}

/// Head, with a line end after each of its lines, and body.
fn split(text: &str) -> (String, &str) {
    let mut head = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        match line.trim_end_matches('\r') {
            "" => break,
            // As mailbox files begin.
            line if head.is_empty() && line.starts_with("From ") => {}
            line => {
                head.push_str(line);
                head.push_str("\r\n");
            }
        }
    }
    (head, rest)
}

/// Fields of a head, each with the lines it is continued on.
fn fields(head: &str) -> impl Iterator<Item = &str> {
    let starts = head.match_indices("\r\n").map(|(at, end)| at + end.len());
    let starts = starts.filter(|at| !head.get(*at..).is_some_and(|rest| rest.starts_with([' ', '\t'])));
    let mut from = 0;
    starts.filter_map(move |to| head.get(std::mem::replace(&mut from, to)..to).map(str::trim_end))
}

fn is_named(field: &str, name: &str) -> bool {
    field.split_once(':').is_some_and(|(own, _)| own.trim().eq_ignore_ascii_case(name))
}

fn header(head: &str, name: &str) -> Option<String> {
    let field = fields(head).find(|field| is_named(field, name))?;
    Some(field.split_once(':')?.1.replace("\r\n", " ").trim().to_owned())
}

fn boundary(kind: &str) -> Option<String> {
    let parameters = kind.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.clone().find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))?;
    // A boundary in quotes may hold what ends a parameter.
    let quoted = kind.split_once('"').filter(|_| value.trim().starts_with('"')).and_then(|_| {
        let at = kind.to_ascii_lowercase().find("boundary")?;
        kind.get(at..)?.split('"').nth(1)
    });
    let value = quoted.unwrap_or_else(|| value.trim());
    (!value.is_empty()).then(|| value.to_owned())
}

fn encoded(text: &str) -> String {
    let text = STANDARD.encode(text);
    let lines: Vec<&str> = (0..text.len()).step_by(76).filter_map(|at| text.get(at..text.len().min(at + 76))).collect();
    lines.join("\r\n")
}

const PLAIN: &str = "text/plain";
const JINJA: &str = "## template: jinja";
const STARTS: [&str; 8] = [
    "#cloud-config",
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#cloud-boothook",
    "#include",
    "#part-handler",
    "#!",
    JINJA,
];
/// What cannot stand in a template.
const OUT_OF_TEMPLATES: [&str; 4] = ["#cloud-config-archive", "#cloud-config-jsonp", "#part-handler", "##"];
/// Types of parts that every cloud-init of these years handles, beside compressed ones.
const KINDS: [&str; 12] = [
    "text/cloud-boothook",
    "text/cloud-config",
    "text/cloud-config-archive",
    "text/cloud-config-jsonp",
    "text/jinja2",
    "text/part-handler",
    "text/x-include-once-url",
    "text/x-include-url",
    "text/x-shellscript",
    "text/x-shellscript-per-boot",
    "text/x-shellscript-per-instance",
    "text/x-shellscript-per-once",
];
const AS_IT_IS: [&str; 4] = ["", "7bit", "8bit", "binary"];
const DEEPEST: usize = 8;

#[cfg(test)]
#[path = "user_data/tests.rs"]
mod tests;
