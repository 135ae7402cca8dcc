//! Writes an ISO 9660 image with Rock Ridge names: the CD-ROM that carries a machine's cloud-init seed.
//!
//! Sources: ECMA-119 (descriptors, path tables, directory records), IEEE P1281 (system use entries), RRIP 1.09 (names, modes).
//! What is not here: Joliet, boot records, symbolic links, more than one volume. Linux reads Rock Ridge in every kernel that
//! reads ISO 9660 at all. Start at [`image`].

use std::collections::BTreeMap;

/// One file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Path from the root, parts separated by `/`.
    pub(crate) path: String,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Content.
    pub(crate) bytes: Vec<u8>,
}

/// The image with volume label `label` (upper case, digits and `_`, at most 32) and `files` in it.
pub(crate) fn image(label: &str, files: &[File]) -> Vec<u8> {
    let mut directories = tree(files);
    let layout = Layout::of(&mut directories, files);
    let mut image = Vec::with_capacity(layout.sectors as usize * SECTOR);
    image.resize(16 * SECTOR, 0);
    image.extend(primary_descriptor(label, &layout, &directories));
    image.extend(sector(b"\xffCD001\x01"));
    image.extend(sector(&path_table(&directories, u32::to_le_bytes, u16::to_le_bytes)));
    image.extend(sector(&path_table(&directories, u32::to_be_bytes, u16::to_be_bytes)));
    for index in 0..directories.len() {
        image.extend(sector(&records(index, &directories, &layout, files)));
    }
    image.extend(sector(&extensions_reference()));
    for file in files {
        image.extend(sector(&file.bytes));
    }
    image
}

/// A directory: where it lies, its parent, and its children by name.
struct Directory {
    parent: usize,
    extent: u32,
    length: u32,
    directories: BTreeMap<String, usize>,
    files: BTreeMap<String, usize>,
}

/// Where everything lies, in sectors.
struct Layout {
    files: Vec<u32>,
    extensions: u32,
    sectors: u32,
}

impl Layout {
    fn of(directories: &mut [Directory], files: &[File]) -> Self {
        let mut next = FIRST_DIRECTORY;
        let nowhere = Self { files: vec![0; files.len()], extensions: 0, sectors: 0 };
        for index in 0..directories.len() {
            let sectors = records(index, directories, &nowhere, files).len().div_ceil(SECTOR);
            directories[index].extent = next;
            directories[index].length = count(sectors * SECTOR);
            next += count(sectors);
        }
        let extensions = next;
        next += 1;
        let files = files
            .iter()
            .map(|file| {
                let extent = next;
                next += count(file.bytes.len().div_ceil(SECTOR).max(1));
                extent
            })
            .collect();
        Self { files, extensions, sectors: next }
    }
}

/// Directories of the image, root first, each parent before its children (ECMA-119 §6.9 wants that order).
fn tree(files: &[File]) -> Vec<Directory> {
    let mut all = vec![Directory::under(0)];
    for (number, file) in files.iter().enumerate() {
        let mut parts: Vec<_> = file.path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        let mut at = 0;
        for part in parts {
            at = match all[at].directories.get(part) {
                Some(found) => *found,
                None => {
                    let new = all.len();
                    all.push(Directory::under(at));
                    all[at].directories.insert(part.to_owned(), new);
                    new
                }
            };
        }
        all[at].files.insert(name.to_owned(), number);
    }
    all
}

impl Directory {
    fn under(parent: usize) -> Self {
        Self { parent, extent: 0, length: 0, directories: BTreeMap::new(), files: BTreeMap::new() }
    }
}

/// A name that every reader accepts; people see the Rock Ridge name beside it.
fn plain_name(directory: bool, number: usize) -> String {
    if directory { format!("D{number:07}") } else { format!("F{number:07}.;1") }
}

fn records(index: usize, all: &[Directory], layout: &Layout, files: &[File]) -> Vec<u8> {
    let this = &all[index];
    let parent = &all[this.parent];
    let mut out = record(&[0], this.extent, this.length, true, &dot_entries(index == 0, layout.extensions));
    append(&mut out, &record(&[1], parent.extent, parent.length, true, &mode_entry(0o755, true)));
    for (name, child) in &this.directories {
        let target = &all[*child];
        let plain = plain_name(true, *child);
        append(
            &mut out,
            &record(plain.as_bytes(), target.extent, target.length, true, &child_entries(name, 0o755, true)),
        );
    }
    for (name, number) in &this.files {
        let file = &files[*number];
        let (plain, entries) = (plain_name(false, *number), child_entries(name, file.mode, false));
        append(&mut out, &record(plain.as_bytes(), layout.files[*number], count(file.bytes.len()), false, &entries));
    }
    out
}

/// Appends a record; none may cross the end of a sector (ECMA-119 §6.8.1.1).
fn append(out: &mut Vec<u8>, record: &[u8]) {
    if out.len() % SECTOR + record.len() > SECTOR {
        out.resize(out.len().next_multiple_of(SECTOR), 0);
    }
    out.extend(record);
}

/// ECMA-119 §9.1.
fn record(name: &[u8], extent: u32, length: u32, directory: bool, system_use: &[u8]) -> Vec<u8> {
    let padding = usize::from(name.len().is_multiple_of(2));
    let whole = 33 + name.len() + padding + system_use.len();
    let whole = whole + whole % 2;
    let mut out = vec![count_u8(whole), 0];
    out.extend(both_u32(extent));
    out.extend(both_u32(length));
    out.extend(RECORDED);
    out.extend([if directory { 2 } else { 0 }, 0, 0]);
    out.extend(both_u16(1));
    out.push(count_u8(name.len()));
    out.extend(name);
    out.extend(std::iter::repeat_n(0, padding));
    out.extend(system_use);
    out.resize(whole, 0);
    out
}

/// The root's own record says that system use entries follow (SP) and where their reference lies (CE).
fn dot_entries(root: bool, extensions: u32) -> Vec<u8> {
    let mut out = Vec::new();
    if root {
        out.extend([b'S', b'P', 7, 1, 0xBE, 0xEF, 0]);
    }
    out.extend(mode_entry(0o755, true));
    if root {
        out.extend([b'C', b'E', 28, 1]);
        out.extend(both_u32(extensions));
        out.extend(both_u32(0));
        out.extend(both_u32(count(extensions_reference().len())));
    }
    out
}

fn child_entries(name: &str, mode: u32, directory: bool) -> Vec<u8> {
    let mut out = mode_entry(mode, directory);
    out.extend([b'N', b'M', count_u8(5 + name.len()), 1, 0]);
    out.extend(name.as_bytes());
    out
}

/// RRIP §4.1.1: mode, links, owner, group.
fn mode_entry(mode: u32, directory: bool) -> Vec<u8> {
    let kind = if directory { 0o040_000 } else { 0o100_000 };
    let mut out = vec![b'P', b'X', 36, 1];
    for value in [mode | kind, if directory { 2 } else { 1 }, 0, 0] {
        out.extend(both_u32(value));
    }
    out
}

/// The ER entry: which extension the system use fields follow.
fn extensions_reference() -> Vec<u8> {
    const ID: &[u8] = b"RRIP_1991A";
    const TEXT: &[u8] = b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    let mut out = vec![b'E', b'R', count_u8(8 + ID.len() + TEXT.len()), 1];
    out.extend([count_u8(ID.len()), count_u8(TEXT.len()), 0, 1]);
    out.extend(ID);
    out.extend(TEXT);
    out
}

/// ECMA-119 §9.4: one entry a directory, in order of creation, which is parents first.
fn path_table(all: &[Directory], long: fn(u32) -> [u8; 4], short: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, directory) in all.iter().enumerate() {
        let name = if index == 0 { vec![0] } else { plain_name(true, index).into_bytes() };
        out.extend([count_u8(name.len()), 0]);
        out.extend(long(directory.extent));
        out.extend(short(u16::try_from(directory.parent + 1).unwrap_or(u16::MAX)));
        out.extend(&name);
        out.extend(std::iter::repeat_n(0, name.len() % 2));
    }
    out
}

/// ECMA-119 §8.4.
fn primary_descriptor(label: &str, layout: &Layout, all: &[Directory]) -> Vec<u8> {
    let table = count(path_table(all, u32::to_le_bytes, u16::to_le_bytes).len());
    let mut out = b"\x01CD001\x01\0".to_vec();
    out.extend(text("LINUX", 32));
    out.extend(text(label, 32));
    out.extend([0; 8]);
    out.extend(both_u32(layout.sectors));
    out.extend([0; 32]);
    for value in [1, 1, 2048] {
        out.extend(both_u16(value));
    }
    out.extend(both_u32(table));
    out.extend(18u32.to_le_bytes());
    out.extend([0; 4]);
    out.extend(19u32.to_be_bytes());
    out.extend([0; 4]);
    out.extend(record(&[0], all[0].extent, all[0].length, true, &[]));
    out.extend(text("", 128 * 4 + 37 * 3));
    out.extend([b'0'; 16].into_iter().chain([0]).collect::<Vec<_>>().repeat(4));
    out.extend([1, 0]);
    sector(&out)
}

fn text(value: &str, width: usize) -> Vec<u8> {
    let mut out = value.as_bytes().to_vec();
    out.resize(width, b' ');
    out
}

/// Pads to whole sectors; nothing still takes one, so that no two extents share an address.
fn sector(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out.resize(bytes.len().div_ceil(SECTOR).max(1) * SECTOR, 0);
    out
}

fn both_u32(value: u32) -> [u8; 8] {
    let [a, b, c, d] = value.to_le_bytes();
    [a, b, c, d, d, c, b, a]
}

fn both_u16(value: u16) -> [u8; 4] {
    let [a, b] = value.to_le_bytes();
    [a, b, b, a]
}

/// Sizes here are of seeds, some megabytes; ISO 9660 ends at 4 GiB.
fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn count_u8(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

const SECTOR: usize = 2048;

/// After 16 reserved sectors, two descriptors and two path tables.
const FIRST_DIRECTORY: u32 = 20;

/// 2026-01-01 00:00 UTC (ECMA-119 §9.1.5): the same content gives the same image.
const RECORDED: [u8; 7] = [126, 1, 1, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::{File, image};
    use std::io::Write as _;

    fn files() -> Vec<File> {
        let file = |path: &str, mode, bytes: &[u8]| File { path: path.to_owned(), mode, bytes: bytes.to_vec() };
        vec![
            file("user-data", 0o644, b"#cloud-config\n"),
            file("meta-data", 0o644, b"instance-id: 1\n"),
            file("network-config", 0o644, b""),
            file("groundwork/enrol.json", 0o600, b"{}"),
            file("groundwork/agent-x86_64", 0o755, &vec![7; 5000]),
        ]
    }

    /// Extracts with a reader that is not ours.
    #[expect(clippy::disallowed_methods, reason = "an independent reader is the point of the test")]
    fn extract(image: &[u8]) -> Option<tempfile::TempDir> {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("bsdtar")
            .args(["-x", "-f", "-", "-C"])
            .arg(folder.path())
            .stdin(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        child.stdin.take().unwrap().write_all(image).unwrap();
        assert!(child.wait().unwrap().success());
        Some(folder)
    }

    #[test]
    fn another_reader_finds_every_file_with_its_name_and_mode() {
        use std::os::unix::fs::PermissionsExt as _;
        let Some(folder) = extract(&image("CIDATA", &files())) else { return };
        for file in files() {
            let path = folder.path().join(&file.path);
            assert_eq!(std::fs::read(&path).unwrap(), file.bytes, "{}", file.path);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, file.mode, "{}", file.path);
        }
    }

    #[test]
    fn a_directory_may_fill_many_sectors() {
        let many = (0..100)
            .map(|n| File { path: format!("many/file-{n}"), mode: 0o644, bytes: vec![n; 3] })
            .collect::<Vec<_>>();
        let Some(folder) = extract(&image("CIDATA", &many)) else { return };
        assert_eq!(std::fs::read_dir(folder.path().join("many")).unwrap().count(), 100);
    }

    #[test]
    fn the_label_stands_where_udev_reads_it() {
        let image = image("CIDATA", &files());
        assert_eq!(&image[16 * 2048 + 1..16 * 2048 + 6], b"CD001");
        assert_eq!(&image[16 * 2048 + 40..16 * 2048 + 72], format!("{:32}", "CIDATA").as_bytes());
        assert_eq!(image.len() % 2048, 0);
    }

    #[test]
    fn the_same_files_give_the_same_image() {
        assert_eq!(image("CIDATA", &files()), image("CIDATA", &files()));
    }
}
