//! `groundwork_image`: a cloud image on a storage, downloaded by the node or uploaded from here.
//!
//! Endpoints: `/nodes/{node}/storage/{storage}/download-url`, `…/upload`, `…/content`. Odd about them: an upload overwrites
//! without a question, a download refuses to, and no answer names the volume, which follows from storage and file name.

mod source;

use std::time::Duration;

use pve::{Class, Client, Content, Download, Error, NodeName, Upload, VolumeId};
use tf::check::one_of;
use tf::{
    Attr, CancellationToken, Diagnostic, Diagnostics, Model, Path, PlanNotes, Presence, Resource, Row, block, chain,
    computed, optional, optional_computed, required,
};
use tokio::time::Instant;

use crate::context::{Cx, Data};
use crate::explain::{self, Cure, Own};
use crate::names;
use crate::timeouts::{self, Limit};

/// See [`Resource::DOC`].
pub(crate) struct ImageResource;

/// An image.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Image {
    id: Attr<String>,
    node: Attr<String>,
    storage: Attr<String>,
    content: Attr<String>,
    file_name: Attr<String>,
    url: Attr<String>,
    checksum: Attr<String>,
    source_file: Attr<String>,
    verify_certificates: Attr<bool>,
    timeouts: Attr<Timeouts>,
    volume_id: Attr<String>,
    size: Attr<i64>,
    drift: Attr<Vec<String>>,
}

impl Model for Image {
    fn rows(&mut self) -> Vec<Row<'_>> {
        #[rustfmt::skip]
        let Self {
            id, node, storage, content, file_name, url, checksum, source_file, verify_certificates, timeouts, volume_id, size, drift,
        } = self;
        vec![
            computed("id", id, "`<node>/<volume>`.").keep(),
            required("node", node, "Node that has the storage.").check(names::node).replaces(),
            required("storage", storage, "Storage for the image. Its content types must name `content`.").check(names::storage).replaces(),
            optional("content", content, "`import` for disk images, `iso` for CDs. Default: `import`.")
                .check(one_of(&["import", "iso"]))
                .default("import")
                .replaces(),
            required("file_name", file_name, "Name on the storage. An image to import ends in `.qcow2`, `.raw`, `.vmdk` or `.ova`, a CD in `.iso` or `.img`.")
                .check(plain_name)
                .replaces(),
            optional_computed("url", url, "Where the node downloads the image. Needs `checksum`.").check(web).first_boot().replaces(),
            optional_computed("checksum", checksum, "`sha256:<hex>` or another algorithm of `md5`, `sha1`, `sha224`, `sha384`, `sha512`. Proxmox VE checks it while it takes the image in.")
                .check(checksum_form)
                .first_boot()
                .replaces(),
            optional_computed("source_file", source_file, "File on this computer to upload, instead of `url`. When its content changes, the next apply uploads it again, over the file on the storage.").first_boot().replaces(),
            optional("verify_certificates", verify_certificates, "Whether the node checks the certificate of the `url`'s server. Default: `true`.").default(true),
            block("timeouts", timeouts, "How long to wait."),
            computed("volume_id", volume_id, "The image for `image` of a `groundwork_vm`, such as `local:import/debian-13.qcow2`.").keep(),
            computed("size", size, "Size of the file in bytes.").keep(),
            computed("drift", drift, "How `source_file` differs from what was uploaded. The next apply uploads it again.").keep(),
        ]
    }
}

/// How long to wait.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Timeouts {
    create: Attr<String>,
    update: Attr<String>,
}

impl Model for Timeouts {
    fn rows(&mut self) -> Vec<Row<'_>> {
        let Self { create, update } = self;
        vec![
            optional("create", create, "Until the image is on the storage. Default: `1h`.").check(timeouts::check),
            optional("update", update, "Until a changed `source_file` is there. Default: `1h`.").check(timeouts::check),
        ]
    }
}

impl Resource for ImageResource {
    type Data = Data;
    type Model = Image;

    const NAME: &'static str = "image";
    const DOC: &'static str = "A disk image or CD on a storage of a node: downloaded by the node itself, or uploaded from here. \
        `url` and `checksum` belong to the creation: the file that is there is not hashed again. A `source_file` is hashed at every refresh.\n\n\
        VMs are copies: a new image in place of an old one never replaces them.";

    fn validate(&self, m: &Image) -> Diagnostics {
        let mut found = Diagnostics::new();
        if m.url.is_null() && m.source_file.is_null() {
            found.push(missing("The image comes from `url` or from `source_file`: give one.", "url"));
        }
        if m.url.is_known() && m.source_file.is_known() {
            found.push(wrong("The image comes from `url` or from `source_file`, not from both.", "source_file"));
        }
        if m.url.is_known() && m.checksum.is_null() {
            let why = "A download needs a `checksum`: without one, nobody can tell the right file from another or from half of one.";
            found.push(missing(why, "checksum"));
        }
        if let (Some(name), Some(content)) = (m.file_name.text(), m.content.text().or(Some("import"))) {
            let ends: &[&str] = if content == "iso" { &[".iso", ".img"] } else { &[".qcow2", ".raw", ".vmdk", ".ova"] };
            if !ends.iter().any(|end| name.ends_with(end)) {
                found.push(wrong(
                    &format!("Proxmox VE takes `{content}` files that end in {}.", ends.join(", ")),
                    "file_name",
                ));
            }
        }
        found
    }

    fn plan(&self, prior: Option<&Image>, config: &Image, m: &mut Image, _notes: &mut PlanNotes) {
        if let (Some(storage), Some(content), Some(name)) = (m.storage.text(), m.content.text(), m.file_name.text()) {
            let volume = format!("{storage}:{content}/{name}");
            if m.volume_id.text() != Some(&volume) {
                m.volume_id.set(volume);
            }
        }
        if prior.is_some() {
            // What was uploaded will be what is there. This line is what makes a changed file a change of the plan.
            if m.drift.get().is_some_and(|lines| !lines.is_empty()) {
                m.drift.set(Vec::new());
                m.size = Attr::Unknown;
            }
            return;
        }
        m.drift.set(Vec::new());
        let given = [&config.url, &config.checksum, &config.source_file];
        let planned = [&mut m.url, &mut m.checksum, &mut m.source_file];
        for (_, planned) in given.into_iter().zip(planned).filter(|(given, _)| given.is_null()) {
            *planned = Attr::Null;
        }
    }

    async fn create(&self, cx: &Cx, m: &mut Image) -> Result<(), Diagnostics> {
        let (node, volume) = place(m)?;
        let limit = Limit::of("create", m.timeouts.get().map(|timeouts| &timeouts.create), TIME);
        let client = cx.pve()?.within(cx.deadline(limit.time), &cx.stop);
        let act = format!("create image {volume} on node {node}");
        let failed = |error: Error| failed(&act, &volume, &error);
        may_hold(&client, &node, &volume, (content(m), &act)).await?;
        let there = client.storages(&node).find(&volume, content(m)).await.map_err(failed)?;
        let brought = match (&there, m.url.text()) {
            (_, Some(url)) => download(&client, &node, &volume, m, url).await,
            (Some(other), None) if !same_size(m, other).await => return Err(taken(&act, &volume).into()),
            (_, None) => upload(cx, &client, &node, m).await,
        };
        match brought {
            Ok(()) => record(m, &node, &volume),
            // What was not there before is ours, whole or in part.
            Err(error) if there.is_none() && may_be_there(cx, (&node, &volume), m, &error).await => {
                record(m, &node, &volume);
                return Err(within(&act, &volume, &error, (TAINTED, limit)).into());
            }
            Err(error) => {
                let holds = if there.is_none() { NOTHING } else { UNTOUCHED };
                return Err(within(&act, &volume, &error, (holds, limit)).into());
            }
        }
        Ok(())
    }

    async fn read(&self, cx: &Cx, m: &mut Image) -> Result<Presence, Diagnostics> {
        let (node, volume) = place(m)?;
        let found = match cx.pve()?.storages(&node).find(&volume, content(m)).await {
            // One image's node must not stand in the way of all that is elsewhere.
            Err(error) if error.node().is_some() => {
                cx.warn(unseen(&volume, &node, &error));
                return Ok(Presence::Here);
            }
            found => found.map_err(|error| failed(&format!("read image {volume} on node {node}"), &volume, &error))?,
        };
        let Some(found) = found else { return Ok(Presence::Gone) };
        m.drift.set(source::drift(cx, m.source_file.text(), &volume).await);
        m.volume_id.set(volume.to_string());
        m.size.set(i64::try_from(found.size).unwrap_or(i64::MAX));
        Ok(Presence::Here)
    }

    async fn update(&self, cx: &Cx, prior: &Image, m: &mut Image) -> Result<(), Diagnostics> {
        if prior.drift.get().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let (node, volume) = place(m)?;
        let limit = Limit::of("update", m.timeouts.get().map(|timeouts| &timeouts.update), TIME);
        let client = cx.pve()?.within(cx.deadline(limit.time), &cx.stop);
        let act = format!("upload image {volume} to node {node} again");
        let sent = upload(cx, &client, &node, m).await;
        sent.map_err(|error| within(&act, &volume, &error, (EARLIER, limit)).into())
    }

    async fn delete(&self, cx: &Cx, m: &Image) -> Result<(), Diagnostics> {
        let (node, volume) = place(m)?;
        let client = cx.pve()?.within(cx.deadline(DELETE), &cx.stop);
        let deleted = client.storages(&node).delete(&volume).await;
        deleted.map_err(|error| failed(&format!("delete image {volume} on node {node}"), &volume, &error).into())
    }

    async fn import(&self, _cx: &Cx, id: &str) -> Result<Image, Diagnostics> {
        let parts = id
            .split_once('/')
            .and_then(|(node, volume)| Some((node.parse::<NodeName>().ok()?, volume.parse::<VolumeId>().ok()?)));
        let named = parts.and_then(|(node, volume)| {
            let (content, name) = volume.name().split_once('/')?;
            Some((node, volume.storage().to_owned(), content.to_owned(), name.to_owned()))
        });
        let Some((node, storage, content, file_name)) = named else {
            return Err(Diagnostic::error(format!("Cannot import image {id}"))
                .happened("This is no id of an image.")
                .holds("Nothing was recorded in the state.")
                .next("Give node and volume: `pve1/local:import/debian-13.qcow2`.")
                .into());
        };
        Ok(Image {
            id: id.into(),
            node: node.to_string().into(),
            storage: storage.into(),
            content: content.into(),
            file_name: file_name.into(),
            url: Attr::imported(),
            checksum: Attr::imported(),
            source_file: Attr::imported(),
            verify_certificates: true.into(),
            ..Image::default()
        })
    }
}

fn content(m: &Image) -> &str {
    m.content.text().unwrap_or("import")
}

fn place(m: &Image) -> Result<(NodeName, VolumeId), Diagnostic> {
    let bad = |_| wrong("This is no name of a node: letters, digits and `-`.", "node");
    let node = m.node.need()?.parse().map_err(bad)?;
    Ok((node, VolumeId::new(m.storage.need()?.as_str(), format!("{}/{}", content(m), m.file_name.need()?))))
}

fn record(m: &mut Image, node: &NodeName, volume: &VolumeId) {
    m.id.set(format!("{node}/{volume}"));
    m.volume_id.set(volume.to_string());
}

/// Whether a failed or stopped creation may have left a file, now or later.
async fn may_be_there(cx: &Cx, (node, volume): (&NodeName, &VolumeId), m: &Image, error: &Error) -> bool {
    let goes_on = matches!(error, Error::Deadline { .. } | Error::Stopped { .. }) || error.outcome_unknown();
    if goes_on {
        return true;
    }
    let Ok(client) = cx.pve() else { return true };
    let calm = client.within(Instant::now() + CALM, &CancellationToken::new());
    calm.storages(node).find(volume, content(m)).await.map_or(true, |found| found.is_some())
}

async fn download(client: &Client, node: &NodeName, volume: &VolumeId, m: &Image, url: &str) -> Result<(), Error> {
    let wanted = Download {
        url: url.to_owned(),
        content: kind(m),
        file_name: m.file_name.or(""),
        checksum: sum(m),
        verify_certificates: m.verify_certificates.or(true),
    };
    let upid = match client.storages(node).download(volume.storage(), &wanted).await {
        // Whether it was begun is not known: a second download of the same file ends the same.
        Err(error) if error.outcome_unknown() => client.storages(node).download(volume.storage(), &wanted).await?,
        begun => begun?,
    };
    client.wait(&upid).await.map(|_| ())
}

/// Sends the file, has the server check that it came whole, and remembers what it was.
async fn upload(cx: &Cx, client: &Client, node: &NodeName, m: &Image) -> Result<(), Error> {
    let own = source::sum(m.source_file.or("").into()).await?;
    let checksum = sum(m).or_else(|| Some(("sha256".to_owned(), own.clone())));
    let source = pve::Source::File(m.source_file.or("").into());
    let wanted = Upload { content: kind(m), file_name: m.file_name.or(""), source, checksum };
    let upid = client.storages(node).upload(&m.storage.or(""), &wanted).await?;
    client.wait(&upid).await?;
    source::remember(cx, &own);
    Ok(())
}

/// Looks before anything is sent whether the storage may hold such files at all.
async fn may_hold(
    client: &Client,
    node: &NodeName,
    volume: &VolumeId,
    (content, act): (&str, &str),
) -> Result<(), Diagnostics> {
    let all = client.storages(node).list().await.map_err(|error| failed(act, volume, &error))?;
    let Some(storage) = all.iter().find(|storage| storage.storage == volume.storage()) else { return Ok(()) };
    if storage.holds(content) {
        return Ok(());
    }
    let fitting: Vec<&str> =
        all.iter().filter(|other| other.holds(content)).map(|other| other.storage.as_str()).collect();
    let others = match fitting.as_slice() {
        [] => "No storage of the node that the API token may see does.".to_owned(),
        some => format!("These do: {}.", some.join(", ")),
    };
    Err(Diagnostic::error(format!("Cannot {act}"))
        .happened(format!("Storage {} does not hold content `{content}`. {others}", storage.storage))
        .holds(NOTHING)
        .next(format!("Set `storage` to one that does, or add `{content}` to that storage's content types."))
        .at("storage")
        .into())
}

/// A file of the right size is what an interrupted upload left, and is sent again; another one is somebody's.
async fn same_size(m: &Image, there: &Content) -> bool {
    tokio::fs::metadata(m.source_file.or("")).await.is_ok_and(|own| own.len() == there.size)
}

fn kind(m: &Image) -> &'static str {
    if content(m) == "iso" { "iso" } else { "import" }
}

fn sum(m: &Image) -> Option<(String, String)> {
    let (algorithm, sum) = m.checksum.text()?.split_once(':')?;
    Some((algorithm.to_owned(), sum.to_ascii_lowercase()))
}

fn unseen(volume: &VolumeId, node: &NodeName, error: &Error) -> Diagnostic {
    Diagnostic::warning(format!("Cannot look at image {volume} on node {node}"))
        .happened(format!("Its node does not answer: {}.", chain(error)))
        .holds("What the state says about it was kept.")
        .next("Bring the node back, and plan again.")
}

fn taken(act: &str, volume: &VolumeId) -> Diagnostic {
    Diagnostic::error(format!("Cannot {act}"))
        .happened(format!(
            "{volume} exists already and has another size than `source_file`. An upload would overwrite it."
        ))
        .holds("Nothing was sent, and that file was not touched.")
        .next("Choose another `file_name`, import the file, or delete it from the storage.")
        .at("file_name")
}

fn failed(act: &str, volume: &VolumeId, error: &Error) -> Diagnostic {
    explain::pve_own(act, error, Own { cure: cure(volume, error), ..Own::default() })
}

/// The same where we know better what holds now.
fn within(act: &str, volume: &VolumeId, error: &Error, (holds, limit): (&str, Limit)) -> Diagnostic {
    explain::pve_own(act, error, Own { holds: Some(holds), limit: Some(limit), cure: cure(volume, error) })
}

/// The storage, the file or the source is the cure, as the server's words say.
fn cure(volume: &VolumeId, error: &Error) -> Option<Cure> {
    let named = error.to_string().contains(volume.storage());
    let (next, at) = match error.class() {
        Class::Full => ("Free space on the storage, or set `storage` to one that has it.", Some("storage")),
        Class::NoStorage => (
            "Correct `storage` or the volume's name, or add the storage to the node.",
            Some("storage").filter(|_| named),
        ),
        Class::WrongContent => {
            ("Set `storage` to one that may hold this, or add it to that storage's content types.", Some("storage"))
        }
        Class::Exists => ("Choose another `file_name`, or import what exists.", Some("file_name")),
        Class::OtherSum => {
            ("Correct `checksum`, or find out why the file is another one, and apply again.", Some("checksum"))
        }
        Class::NoDownload => ("Correct `url`, or see why the node cannot reach it, and apply again.", Some("url")),
        Class::NoNode => ("Correct `node`: the cluster knows none of this name.", Some("node")),
        _ if matches!(error, Error::File { .. }) => return Some(Cure::at("source_file")),
        _ if matches!(error, Error::Deadline { .. }) => return Some(Cure::at("timeouts")),
        _ => return None,
    };
    Some(Cure { next: Some(next), at: at.map(Path::from) })
}

fn wrong(problem: &str, at: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot use this value of {at}")).happened(problem).at(at)
}

fn missing(problem: &str, at: &str) -> Diagnostic {
    Diagnostic::error(format!("Cannot do without {at}")).happened(problem).at(at)
}

fn plain_name(text: &str) -> Result<(), String> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let good = !text.is_empty() && text.len() <= 255 && text.bytes().all(inner);
    if good { Ok(()) } else { Err("must be a file name of letters, digits and `_.-`".to_owned()) }
}

fn web(text: &str) -> Result<(), String> {
    let good = text.starts_with("https://") || text.starts_with("http://");
    if good { Ok(()) } else { Err("must begin with `https://` or `http://`".to_owned()) }
}

fn checksum_form(text: &str) -> Result<(), String> {
    let lengths = [("md5", 32), ("sha1", 40), ("sha224", 56), ("sha256", 64), ("sha384", 96), ("sha512", 128)];
    let good = text.split_once(':').is_some_and(|(algorithm, sum)| {
        let hex = sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex && lengths.iter().any(|(own, length)| *own == algorithm && sum.len() == *length)
    });
    if good {
        Ok(())
    } else {
        Err("must be an algorithm and its hex value, such as `sha256:…` with 64 digits".to_owned())
    }
}

const TIME: Duration = Duration::from_secs(3_600);
const DELETE: Duration = Duration::from_secs(300);
const CALM: Duration = Duration::from_secs(20);
const TAINTED: &str = "The file may be there in part or still be on its way. It is recorded in the state as tainted: the next apply replaces it.";
const NOTHING: &str = "Nothing was kept on the storage and nothing was recorded in the state.";
const UNTOUCHED: &str = "The file that was there before was kept, and nothing was recorded in the state.";
const EARLIER: &str = "The storage has the file that was uploaded before, or the new one; the next plan shows which.";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl Fn(&mut Image), at: Option<&str>) {
        let mut m = Image {
            file_name: "debian.qcow2".into(),
            url: "https://example.org/debian.qcow2".into(),
            checksum: format!("sha256:{}", "0".repeat(64)).into(),
            ..Image::default()
        };
        change(&mut m);
        let found = ImageResource.validate(&m);
        let paths: Vec<String> = found.iter().filter_map(|one| Some(one.path()?.to_string())).collect();
        assert_eq!(paths, at.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn an_image_has_one_source_a_checksum_and_a_fitting_name() {
        check(|_| {}, None);
        check(|m| m.url = Attr::Null, Some("url"));
        check(|m| m.source_file.set("/tmp/x"), Some("source_file"));
        check(|m| m.checksum = Attr::Null, Some("checksum"));
        check(|m| m.file_name.set("debian.img"), Some("file_name"));
        check(|m| m.url = Attr::Unknown, None);
    }

    #[test]
    fn a_plan_knows_the_volume_and_turns_a_changed_file_into_an_upload() {
        let config = Image {
            storage: "local".into(),
            content: "import".into(),
            file_name: "d.qcow2".into(),
            source_file: "./d.qcow2".into(),
            ..Image::default()
        };
        let mut m = Image { volume_id: Attr::Unknown, drift: Attr::Unknown, ..config.clone() };
        ImageResource.plan(None, &config, &mut m, &mut PlanNotes::new(true));
        assert_eq!(m.volume_id.text(), Some("local:import/d.qcow2"));
        let prior = Image { drift: vec!["source_file: changed".to_owned()].into(), size: 7.into(), ..m };
        let mut again = prior.clone();
        ImageResource.plan(Some(&prior), &config, &mut again, &mut PlanNotes::new(false));
        assert_eq!((again.drift, again.size), (Vec::new().into(), Attr::Unknown));
    }

    #[test]
    fn a_checksum_has_its_algorithms_length() {
        assert!(checksum_form(&format!("sha512:{}", "a".repeat(128))).is_ok());
        assert!(checksum_form(&format!("sha512:{}", "a".repeat(64))).is_err());
        assert!(checksum_form("abc").is_err());
    }

    #[test]
    fn a_refusal_names_the_attribute_that_is_its_cure() {
        let volume: VolumeId = "fast:import/a.qcow2".parse().unwrap();
        let check = |message: &str, at: Option<&str>, next: &str| {
            let call = "POST /nodes/pve1/storage/fast/download-url".to_owned();
            let (endpoint, errors) = (String::new(), std::collections::BTreeMap::new());
            let refused = pve::Refused { call, endpoint, status: 500, message: message.to_owned(), errors };
            let told = failed("create image a", &volume, &Error::Refused(Box::new(refused)));
            assert_eq!(told.path().map(ToString::to_string).as_deref(), at, "{message}");
            assert!(told.detail().contains(next), "{}", told.detail());
        };
        check("checksum mismatch: got 'a' != expect 'b'", Some("checksum"), "Correct `checksum`");
        check("download failed: 404", Some("url"), "Correct `url`");
        check("storage 'fast' does not exist", Some("storage"), "Correct `storage`");
        check("refusing to override existing file 'a'", Some("file_name"), "Choose another `file_name`");
        check("hostname lookup 'pve7' failed", Some("node"), "Correct `node`");
    }
}
