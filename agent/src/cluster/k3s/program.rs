//! The program of K3s or a relative, and its archive of images: fetched, compared with their sums, and put where upstream puts them.
//!
//! What has no right sum is never run, nor does it stand for a moment where it could be. Source: K3s, "Air-Gap Install".

use super::config::Note;
use super::variant::Variant;
use crate::cluster::kube::{Kube, failed, failure, refused};
use crate::host::{Command, HostError, Kind};
use crate::run::Failure;
use std::time::{Duration, Instant};

/// Where something is fetched, and what it must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `http://` or `https://`
    pub url: String,
    /// SHA-256, hex, lower case.
    pub sha256: String,
}

/// A K3s, or a relative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Which of them.
    pub own: &'static Variant,
    /// `v1.34.3+k3s1`
    pub version: String,
    /// The program.
    pub program: Source,
    /// An archive of its images, for machines that reach no registry.
    pub images: Option<Source>,
}

/// Whether the program stands here already, put there by somebody else.
pub(super) async fn stands(kube: &Kube<'_>, release: &Release) -> Result<bool, Failure> {
    Ok(sum(kube, release.own.places.program).await?.is_some_and(|sum| sum == release.program.sha256))
}

/// Fetches what is missing, and sees that it is the version that is meant. Beside a program of somebody else nothing is put.
pub(super) async fn install(kube: &Kube<'_>, release: &Release, own_program: bool) -> Result<(), Failure> {
    kube.may_go_on(STEP)?;
    kube.cx.step_began(STEP, 1);
    let own = release.own;
    bring(kube, own, (&release.program, ["url", "checksum"]), (own.places.program, "0755")).await?;
    for name in own.links.iter().filter(|_| own_program) {
        let path = format!("{FOLDER}/{name}");
        if !kube.host().exists(&path).map_err(failed(STEP, &format!("look at {path}")))? {
            kube.host().link(&path, own.program).map_err(failed(STEP, &format!("make the link {path}")))?;
        }
    }
    is_of_version(kube, own.places.program, release).await?;
    bring_images(kube, release).await
}

async fn bring_images(kube: &Kube<'_>, release: &Release) -> Result<(), Failure> {
    let Some(images) = &release.images else { return Ok(()) };
    let place = archive(release.own, &images.url);
    bring(kube, release.own, (images, ["images_url", "images_checksum"]), (&place, "0644")).await
}

/// Has the program of an upgrade stand beside the one that runs, unless that is it already. What starts anew meanwhile is of before.
pub(super) async fn stage(kube: &Kube<'_>, release: &Release) -> Result<(), Failure> {
    if stands(kube, release).await? {
        return Ok(());
    }
    kube.may_go_on(STEP)?;
    kube.cx.step_began(STEP, 1);
    let (own, next) = (release.own, next(release.own.places.program));
    if sum(kube, &next).await?.is_none_or(|sum| sum != release.program.sha256) {
        let since = Instant::now();
        let put = async || put(kube, own, &next, "0755").await;
        download(kube, own, (&release.program, ["url", "checksum"]), put).await?;
        kube.made(STEP, &format!("fetch {next}"), &format!("from {}", release.program.url), since);
    }
    is_of_version(kube, &next, release).await
}

/// Puts the program of an upgrade in the place of the one before, as a whole, and its images beside it.
pub(super) async fn replace(kube: &Kube<'_>, release: &Release) -> Result<(), Failure> {
    bring_images(kube, release).await?;
    if stands(kube, release).await? {
        return Ok(());
    }
    let (since, program) = (Instant::now(), release.own.places.program);
    rename(kube, &next(program), program).await?;
    kube.made(STEP, &format!("replace {program}"), &format!("it is {} now", release.version), since);
    Ok(())
}

/// What `k3s server` or `k3s agent` can be told, in the program's own words.
pub(super) async fn help(kube: &Kube<'_>, own: &Variant, role: &str) -> Result<String, Failure> {
    let ask = Command::new(own.places.program, [role, "--help"]).timeout(UNPACK);
    let said = kube.host().run(&ask, &|_| {}).await.map_err(failed(STEP, "ask the program what it knows"))?;
    if said.code == Some(0) { Ok(said.stdout) } else { Err(refused(STEP, &ask, &said)) }
}

/// A program says itself what it is.
async fn is_of_version(kube: &Kube<'_>, path: &str, release: &Release) -> Result<(), Failure> {
    let ask = Command::new(path, ["--version"]);
    let own = release.own;
    let said = kube.host().run(&ask, &|_| {}).await.map_err(failed(STEP, "ask the program for its version"))?;
    // It calls itself by the name of its file, which may be another one beside the program that runs.
    let is = said.stdout.split_once(" version ").and_then(|(_, rest)| rest.split_whitespace().next());
    let is = is.unwrap_or("of no version");
    if said.code != Some(0) {
        return Err(refused(STEP, &ask, &said));
    }
    if is == release.version {
        return Ok(());
    }
    let message = format!(
        "`{}` gives {} {is}, and `version` is {}: give the program of that version and its checksum",
        own.attribute("url"),
        own.name,
        release.version
    );
    Err(failure(STEP, message))
}

async fn bring(
    kube: &Kube<'_>,
    own: &Variant,
    (source, attributes): (&Source, [&str; 2]),
    (path, mode): (&str, &str),
) -> Result<(), Failure> {
    if sum(kube, path).await?.is_some_and(|sum| sum == source.sha256) {
        return Ok(());
    }
    let since = Instant::now();
    download(kube, own, (source, attributes), async || {
        put(kube, own, &next(path), mode).await?;
        rename(kube, &next(path), path).await
    })
    .await?;
    kube.made(STEP, &format!("fetch {path}"), &format!("from {}", source.url), since);
    Ok(())
}

/// Fetches what has this sum, and has it `placed`; nothing of it stays where it was fetched to.
async fn download(
    kube: &Kube<'_>,
    own: &Variant,
    (source, attributes): (&Source, [&str; 2]),
    placed: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    kube.must(STEP, &Command::new("/usr/bin/install", ["-d", "-m", "0755", own.places.data])).await?;
    kube.host().remove(own.places.download).map_err(failed(STEP, "remove an earlier download"))?;
    let done = match fetched(kube, own, (source, attributes)).await {
        Ok(()) => placed().await,
        other => other,
    };
    kube.host().remove(own.places.download).map_err(failed(STEP, "remove the download"))?;
    done
}

/// What is half written has this name. All of it is larger than what a host copies by itself.
fn next(path: &str) -> String {
    format!("{path}.groundwork-new")
}

async fn put(kube: &Kube<'_>, own: &Variant, path: &str, mode: &str) -> Result<(), Failure> {
    let words = ["-D", "-m", mode, "--", own.places.download, path];
    let install = Command::new("/usr/bin/install", words).timeout(FETCH);
    kube.must(STEP, &install).await.map(drop)
}

async fn rename(kube: &Kube<'_>, from: &str, to: &str) -> Result<(), Failure> {
    kube.must(STEP, &Command::new("/usr/bin/mv", ["--no-target-directory", "--", from, to])).await.map(drop)
}

/// By apt's own downloader: it knows the machine's proxies and certificates, and the agent need not resolve names.
async fn fetched(kube: &Kube<'_>, own: &Variant, (source, attributes): (&Source, [&str; 2])) -> Result<(), Failure> {
    let (download, [url, checksum]) = (own.places.download, attributes.map(|name| own.attribute(name)));
    let get = Command::new("/usr/lib/apt/apt-helper", ["download-file", &source.url, download]).timeout(FETCH);
    let said = kube.run(STEP, &get).await?;
    if said.code != Some(0) {
        let mut failure = refused(STEP, &get, &said);
        failure.message = format!("`{url}` cannot be fetched: {}", failure.message);
        return Err(failure);
    }
    let sum = sum(kube, download).await?.unwrap_or_default();
    if sum == source.sha256 {
        return Ok(());
    }
    let message = format!(
        "what {} gives has another SHA-256 than `{checksum}` says, which is sha256:{}: it is sha256:{sum}. Nothing of it was used",
        source.url, source.sha256
    );
    Err(failure(STEP, message))
}

/// SHA-256 of a file; `None` where none stands.
async fn sum(kube: &Kube<'_>, path: &str) -> Result<Option<String>, Failure> {
    let stat = kube.host().stat(path).map_err(failed(STEP, &format!("look at {path}")))?;
    if stat.is_none_or(|stat| stat.kind != Kind::File) {
        return Ok(None);
    }
    let ask = Command::new("/usr/bin/sha256sum", ["--", path]).timeout(FETCH);
    let said = kube.host().run(&ask, &|_| {}).await.map_err(failed(STEP, &format!("take the sum of {path}")))?;
    Ok(said.stdout.split_whitespace().next().filter(|_| said.code == Some(0)).map(str::to_owned))
}

/// It takes in every archive in this folder when it starts, and knows by its ending how it is packed.
fn archive(own: &Variant, url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let ending = ENDINGS.iter().find(|ending| path.ends_with(**ending)).unwrap_or(&".tar");
    format!("{}/{ARCHIVE}{ending}", own.places.images)
}

/// Takes the program away, if we have put it there, and what leads to it.
pub(super) fn remove(kube: &Kube<'_>, own: &Variant, step: &str, note: &Note) -> Result<(), Failure> {
    if !note.own_program {
        return Ok(());
    }
    let go = |path: &str| -> Result<(), HostError> { kube.host().remove(path) };
    let program = own.places.program;
    for name in own.links {
        let path = format!("{FOLDER}/{name}");
        let stat = kube.host().stat(&path).map_err(failed(step, &format!("look at {path}")))?;
        if stat.is_some_and(|stat| matches!(stat.kind, Kind::Link(to) if to == own.program || to == program)) {
            go(&path).map_err(failed(step, &format!("remove {path}")))?;
        }
    }
    for path in [program, &next(program)] {
        go(path).map_err(failed(step, &format!("remove {path}")))?;
    }
    Ok(())
}

const STEP: &str = "install";
const FOLDER: &str = "/usr/local/bin";
pub(super) const ARCHIVE: &str = "groundwork-images";
const ENDINGS: [&str; 6] = [".tar.zst", ".tar.gz", ".tar.lz4", ".tar.bz2", ".tgz", ".tar"];
const FETCH: Duration = Duration::from_secs(1_800);
/// It unpacks itself when it is run for the first time.
const UNPACK: Duration = Duration::from_secs(300);
