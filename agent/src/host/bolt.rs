//! The file of etcd's database, as much as is needed of it: its last revision, and what it says of its own cluster.
//!
//! A file of bbolt is pages. Two of them tell where the root is; below it lie trees of keys, the buckets, a small one within the page of its
//! parent. Here a tree is only walked down, and of a copy fields are overwritten where they stand: no page moves, and no sum covers them.
//! Everything comes from outside: what does not fit is an error of the kind `InvalidData`.
//! Source: bbolt, `internal/common/page.go`, `meta.go` and `bucket.go`; etcd, `server/storage/schema`.

use prost::Message as _;
use std::collections::BTreeSet;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A database, opened.
pub(super) struct Database<F> {
    file: F,
    page: u64,
    /// Bytes that it has.
    length: u64,
    root: u64,
}

/// A page, or a bucket within one.
struct Node {
    /// Where it stands in the file.
    at: u64,
    bytes: Vec<u8>,
}

/// A value, or a bucket's head.
struct Item {
    is_bucket: bool,
    key: Vec<u8>,
    /// Where the value stands in the file.
    at: u64,
    value: Vec<u8>,
}

impl<F: Read + Seek> Database<F> {
    /// The first `length` bytes of a file.
    pub(super) fn open(mut file: F, length: u64) -> io::Result<Self> {
        let first = Meta::read(&mut file, 0)?;
        let second = Meta::read(&mut file, u64::from(first.page));
        let newest = second.ok().filter(|second| second.transaction > first.transaction).unwrap_or(first);
        Ok(Self { file, page: newest.page.into(), length, root: newest.root })
    }

    /// The last revision of any key; 0 without keys.
    pub(super) fn revision(&mut self) -> io::Result<u64> {
        let keys = self.find("key")?.ok_or_else(|| damaged("it has no bucket of keys"))?;
        let mut node = self.bucket(&keys)?;
        for _ in 0..DEEPEST {
            let Some(last) = node.count().checked_sub(1) else { return Ok(0) };
            if node.is_branch()? {
                node = self.page(node.child(last)?)?;
                continue;
            }
            let main = node.item(last)?.key.first_chunk().copied();
            return main.map(u64::from_be_bytes).ok_or_else(|| damaged("a key is no revision"));
        }
        Err(too_deep())
    }

    /// Keys of etcd that begin so, as of the last revision. Every page of the tree is read, and none of them twice.
    pub(super) fn keys(&mut self, prefix: &[u8]) -> io::Result<BTreeSet<Vec<u8>>> {
        let keys = self.find("key")?.ok_or_else(|| damaged("it has no bucket of keys"))?;
        let (mut found, mut read) = (BTreeSet::new(), 0);
        let mut left = vec![(self.bucket(&keys)?, 0)];
        while let Some((node, next)) = left.pop() {
            if !node.is_branch()? {
                (0..node.count()).try_for_each(|at| note(&node.item(at)?, prefix, &mut found))?;
                continue;
            }
            if next == node.count() {
                continue;
            }
            read += 1;
            if read > self.length / self.page || left.len() > DEEPEST {
                return Err(too_deep());
            }
            let child = self.page(node.child(next)?)?;
            left.extend([(node, next + 1), (child, 0)]);
        }
        Ok(found)
    }

    /// A bucket of the root.
    fn find(&mut self, name: &str) -> io::Result<Option<Item>> {
        let root = self.page(self.root)?;
        let found = self.below(root, name.as_bytes())?;
        Ok(found.filter(|item| item.is_bucket))
    }

    /// What stands under a key in a tree.
    fn below(&mut self, mut node: Node, key: &[u8]) -> io::Result<Option<Item>> {
        for _ in 0..DEEPEST {
            if !node.is_branch()? {
                for at in 0..node.count() {
                    let item = node.item(at)?;
                    if item.key == key {
                        return Ok(Some(item));
                    }
                }
                return Ok(None);
            }
            let mut child = 0;
            for at in 1..node.count() {
                if node.branch_key(at)? <= key {
                    child = at;
                }
            }
            node = self.page(node.child(child)?)?;
        }
        Err(too_deep())
    }

    /// The root of a bucket.
    fn bucket(&mut self, item: &Item) -> io::Result<Node> {
        match number(&item.value, 0).map(u64::from_le_bytes)? {
            // It stands behind its head.
            0 => Ok(Node { at: item.at + HEAD, bytes: item.value.get(16..).unwrap_or_default().to_vec() }),
            page => self.page(page),
        }
    }

    fn page(&mut self, id: u64) -> io::Result<Node> {
        let at = id.checked_mul(self.page).filter(|at| *at < self.length).ok_or_else(outside)?;
        let head = self.bytes(at, HEAD)?;
        let more = u64::from(number(&head, 12).map(u32::from_le_bytes)?);
        let length = more.saturating_add(1).saturating_mul(self.page);
        Ok(Node { at, bytes: self.bytes(at, length)? })
    }

    fn bytes(&mut self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        if length > LARGEST || at.saturating_add(length) > self.length {
            return Err(outside());
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| outside())?];
        self.file.seek(SeekFrom::Start(at))?;
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Takes note of what a revision did to a key: it was written, or it ended.
fn note(item: &Item, prefix: &[u8], found: &mut BTreeSet<Vec<u8>>) -> io::Result<()> {
    let written = Written::decode(item.value.as_slice()).map_err(|_| damaged("a key's value cannot be read"))?;
    if written.key.starts_with(prefix) {
        // A number, a mark and another number; and at the end of a key one letter more.
        match item.key.get(17) {
            Some(b't') => found.remove(&written.key),
            _ => found.insert(written.key),
        };
    }
    Ok(())
}

/// A value, as etcd keeps it: with its key, which the tree has not. Source: etcd, `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
struct Written {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

impl<F: Read + Write + Seek> Database<F> {
    /// Has it forget the cluster that it was of: its members, their alarms, and how far their log had come. An etcd that finds it without a log
    /// then begins one, and is what it is told to be.
    pub(super) fn set_free(&mut self) -> io::Result<()> {
        let settings = self.find("meta")?.ok_or_else(|| damaged("it has no bucket of settings"))?;
        for name in ["consistent_index", "term"] {
            let node = self.bucket(&settings)?;
            if let Some(item) = self.below(node, name.as_bytes())?.filter(|item| item.value.len() == 8) {
                self.put(item.at, &[0; 8])?;
            }
        }
        for name in ["members", "members_removed", "alarm"] {
            if let Some(bucket) = self.find(name)? {
                self.empty(&bucket)?;
            }
        }
        Ok(())
    }

    /// Leaves a bucket its first leaf, with nothing in it.
    fn empty(&mut self, bucket: &Item) -> io::Result<()> {
        let mut node = self.bucket(bucket)?;
        let mut page = None;
        for _ in 0..DEEPEST {
            if !node.is_branch()? {
                if let Some(page) = page {
                    self.put(bucket.at, &u64::to_le_bytes(page))?;
                }
                return self.put(node.at + COUNT, &[0; 2]);
            }
            let first = node.child(0)?;
            (node, page) = (self.page(first)?, Some(first));
        }
        Err(too_deep())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(at))?;
        self.file.write_all(bytes)
    }
}

impl Node {
    fn is_branch(&self) -> io::Result<bool> {
        match number(&self.bytes, 8).map(u16::from_le_bytes)? {
            BRANCH => Ok(true),
            LEAF => Ok(false),
            _ => Err(damaged("a page of a tree is of another kind")),
        }
    }

    fn count(&self) -> usize {
        number(&self.bytes, 10).map(u16::from_le_bytes).map_or(0, usize::from)
    }

    fn word(&self, element: usize, word: usize) -> io::Result<usize> {
        let number = number(&self.bytes, ELEMENT * (element + 1) + 4 * word).map(u32::from_le_bytes)?;
        usize::try_from(number).map_err(|_| outside())
    }

    fn child(&self, element: usize) -> io::Result<u64> {
        number(&self.bytes, ELEMENT * (element + 1) + 8).map(u64::from_le_bytes)
    }

    fn branch_key(&self, element: usize) -> io::Result<&[u8]> {
        let at = ELEMENT * (element + 1) + self.word(element, 0)?;
        self.bytes.get(at..at + self.word(element, 1)?).ok_or_else(outside)
    }

    fn item(&self, element: usize) -> io::Result<Item> {
        let word = |word| self.word(element, word);
        let (flags, begin) = (word(0)?, ELEMENT * (element + 1) + word(1)?);
        let middle = begin + word(2)?;
        let (key, value) = (self.bytes.get(begin..middle), self.bytes.get(middle..middle + word(3)?));
        let (Some(key), Some(value)) = (key, value) else { return Err(outside()) };
        let at = self.at + u64::try_from(middle).map_err(|_| outside())?;
        Ok(Item { is_bucket: flags & BUCKET != 0, key: key.to_vec(), at, value: value.to_vec() })
    }
}

/// One of the two pages that tell where everything is.
struct Meta {
    page: u32,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn read<F: Read + Seek>(file: &mut F, at: u64) -> io::Result<Self> {
        let mut bytes = [0; 80];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        let bytes = bytes.get(16..).unwrap_or_default();
        let word = |at| number(bytes, at).map(u32::from_le_bytes);
        let long = |at| number(bytes, at).map(u64::from_le_bytes);
        let page = word(8)?;
        let is_one = word(0)? == MAGIC && word(4)? == VERSION && long(56)? == sum(bytes.get(..56).unwrap_or_default());
        if !is_one || !page.is_power_of_two() || !(512..=65_536).contains(&page) {
            return Err(damaged("it is no database of etcd"));
        }
        Ok(Self { page, root: long(16)?, transaction: long(48)? })
    }
}

/// FNV-1a of 64 bits.
fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or_else(outside)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn outside() -> io::Error {
    damaged("the database is damaged: it points beyond its end")
}

fn too_deep() -> io::Error {
    damaged("the database is damaged: a tree has no end")
}

const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const BUCKET: usize = 0x01;
/// Bytes before the elements of a page, and before a bucket within one.
const HEAD: u64 = 16;
/// Where a page tells how many elements it has.
const COUNT: u64 = 10;
const ELEMENT: usize = 16;
/// A tree with more levels than any file has room for.
const DEEPEST: usize = 32;
/// Of one page: a value of etcd's has a few megabytes at most.
const LARGEST: u64 = 64 << 20;

#[cfg(test)]
pub(super) use tests::database as sample;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const PAGE: usize = 4096;

    /// A page with what it has.
    fn page(id: u64, kind: u16, elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(u16::try_from(elements.len()).unwrap().to_le_bytes());
        bytes.extend([0; 4]);
        let mut data = Vec::new();
        for (at, (flags, key, value)) in elements.iter().enumerate() {
            let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
            let begin = u32::try_from((elements.len() - at) * ELEMENT + data.len()).unwrap().to_le_bytes();
            if kind == BRANCH {
                bytes.extend([begin, length(key)].concat());
                bytes.extend(*value);
                data.extend(*key);
            } else {
                bytes.extend([flags.to_le_bytes(), begin, length(key), length(value)].concat());
                data.extend([*key, *value].concat());
            }
        }
        bytes.extend(data);
        bytes
    }

    fn filled(mut page: Vec<u8>) -> Vec<u8> {
        page.resize(PAGE, 0);
        page
    }

    fn meta(id: u64, root: u64, transaction: u64) -> Vec<u8> {
        let mut body = [MAGIC, VERSION, 4096, 0].map(u32::to_le_bytes).concat();
        body.extend([root, 0, 9, 9, transaction].map(u64::to_le_bytes).concat());
        let sum = sum(&body).to_le_bytes();
        filled([page(id, 4, &[]), body, sum.to_vec()].concat())
    }

    fn inline(elements: &[(u32, &[u8], &[u8])]) -> Vec<u8> {
        [vec![0; 16], page(0, LEAF, elements)].concat()
    }

    fn bucket(root: u64) -> Vec<u8> {
        [root, 0].map(u64::to_le_bytes).concat()
    }

    fn revision(main: u64) -> Vec<u8> {
        [&main.to_be_bytes()[..], b"_", &[0; 8]].concat()
    }

    /// Keys in a tree of two leaves, members in one of two as well, the rest within the root.
    pub(in super::super) fn database() -> Vec<u8> {
        let settings =
            inline(&[(0, b"consistent_index", &[7; 8]), (0, b"storageVersion", b"3.6.0"), (0, b"term", &[3; 8])]);
        let (alarm, gone) = (inline(&[(0, b"a", b"")]), inline(&[]));
        let root = page(
            2,
            LEAF,
            &[
                (1, b"alarm", &alarm),
                (1, b"key", &bucket(3)),
                (1, b"members", &bucket(6)),
                (1, b"members_removed", &gone),
                (1, b"meta", &settings),
            ],
        );
        let (first, last) = (revision(4), revision(9));
        let value = |key: &str| [&[10, u8::try_from(key.len()).unwrap()], key.as_bytes(), b"*\x05value"].concat();
        let (one, other) = (value("/a/one"), value("/a/other"));
        let ended = [&first[..], b"t"].concat();
        let leaf = |id, items: &[(u32, &[u8], &[u8])]| filled(page(id, LEAF, items));
        let branch = |id, low: &[u8], high: &[u8], first: u64| {
            let (one, two) = (first.to_le_bytes(), (first + 1).to_le_bytes());
            filled(page(id, BRANCH, &[(0, low, &one), (0, high, &two)]))
        };
        [
            meta(0, 2, 12),
            meta(1, 99, 11),
            filled(root),
            branch(3, &first, &last, 4),
            leaf(4, &[(0, &first, &one), (0, &ended, &one)]),
            leaf(5, &[(0, &last, &other)]),
            branch(6, b"1", b"2", 7),
            leaf(7, &[(0, b"1", b"value")]),
            leaf(8, &[(0, b"2", b"value")]),
        ]
        .concat()
    }

    fn open(bytes: &mut Vec<u8>) -> io::Result<Database<Cursor<&mut Vec<u8>>>> {
        let length = u64::try_from(bytes.len()).unwrap();
        Database::open(Cursor::new(bytes), length)
    }

    #[test]
    fn the_last_revision_is_found() {
        let mut bytes = database();
        assert_eq!(open(&mut bytes).unwrap().revision().unwrap(), 9);
    }

    #[test]
    fn keys_are_found_that_have_not_ended() {
        let mut bytes = database();
        let mut keys = |prefix: &[u8]| open(&mut bytes).unwrap().keys(prefix).unwrap();
        assert_eq!(keys(b"/a/"), BTreeSet::from([b"/a/other".to_vec()]));
        assert_eq!(keys(b"/b/"), BTreeSet::new());
    }

    #[test]
    fn a_database_forgets_its_cluster_and_nothing_else() {
        let (before, mut bytes) = (database(), database());
        open(&mut bytes).unwrap().set_free().unwrap();
        let mut database = open(&mut bytes).unwrap();
        for name in ["members", "members_removed", "alarm"] {
            let bucket = database.find(name).unwrap().unwrap();
            let node = database.bucket(&bucket).unwrap();
            assert_eq!((node.count(), node.is_branch().unwrap()), (0, false), "{name}");
        }
        let settings = database.find("meta").unwrap().unwrap();
        for (name, value) in [("consistent_index", [0; 8].as_slice()), ("term", &[0; 8]), ("storageVersion", b"3.6.0")]
        {
            let node = database.bucket(&settings).unwrap();
            assert_eq!(database.below(node, name.as_bytes()).unwrap().unwrap().value, value, "{name}");
        }
        assert_eq!(database.revision().unwrap(), 9);
        assert_eq!(bytes.len(), before.len());
    }

    #[test]
    fn any_bytes_are_answered() {
        total::bytes("etcd-database", &[&database()], |bytes| {
            let mut bytes = bytes.to_vec();
            let revision = open(&mut bytes).and_then(|mut database| database.revision()).ok();
            let keys = open(&mut bytes).and_then(|mut database| database.keys(b"/")).map(|keys| keys.len()).ok();
            let freed = open(&mut bytes).and_then(|mut database| database.set_free()).is_ok();
            (revision, keys, freed)
        });
    }
}
