//! [`Cache`]: a folder in which engines keep what they made of a model, so that the next start need not make it again.
//!
//! Nothing in it is needed: what is missing, broken, of another version or of another model is made anew, and a folder that cannot be written
//! costs the speed alone. Files appear whole or not at all, under their names by a rename, so that processes may share a folder.

mod sealed;

pub(crate) use sealed::{ALIGN, open, seal};

use crate::model::mapped::Mapped;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tempfile::NamedTempFile;

/// Bytes that a folder takes at most, where nothing else is said.
const MOST: u64 = 8_000_000_000;
/// How exactly it is known when a file was last used: one write to the disk in so long a time.
const DAY: Duration = Duration::from_hours(24);
/// What ends a file's name, and what begins that of one under construction.
const ENDINGS: [&str; 6] = ["plan", "weights", "verdict", "deaths", "devices", "pipelines"];
const DRAFT: &str = ".undiffuse-";

/// A folder for compiled plans and packed weights, made when it is first written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    folder: PathBuf,
    most: u64,
}

impl Cache {
    /// Keeps files in `folder`, 8 GB of them at most.
    pub fn new(folder: impl Into<PathBuf>) -> Cache {
        Cache { folder: folder.into(), most: MOST }
    }

    /// Keeps so many bytes at most; what was not used for longest goes first.
    pub fn limited(self, bytes: u64) -> Cache {
        Cache { most: bytes, ..self }
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file `name`, if it is there, as used now.
    pub(crate) fn find(&self, name: &str) -> Option<Mapped> {
        let file = self.folder.join(name);
        let mapped = Mapped::open(&file).ok()?;
        if let Err(error) = touch(&file) {
            log::debug!("{} cannot be marked as used: {error}", file.display());
        }
        Some(mapped)
    }

    /// Names of the files of ours that end so.
    #[cfg(feature = "vulkan")]
    pub(crate) fn names(&self, ending: &str) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| is_named(name, ending));
        names.sort();
        names
    }

    /// Begins a file of `bytes` bytes.
    ///
    /// # Errors
    /// When the folder cannot be made or written to, or may not hold so much.
    pub(crate) fn draft(&self, name: &str, bytes: u64) -> io::Result<Draft> {
        if bytes > self.most {
            let message = format!("{bytes} bytes are more than the {} that the cache may take", self.most);
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        fs::create_dir_all(&self.folder)?;
        let file = tempfile::Builder::new().prefix(DRAFT).tempfile_in(&self.folder)?;
        Ok(Draft { cache: self.clone(), name: name.to_owned(), file })
    }

    /// Writes the file `name`, whole or not at all.
    ///
    /// # Errors
    /// Those of [`Cache::draft`].
    #[cfg(feature = "vulkan")]
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut draft = self.draft(name, bytes.len() as u64)?;
        draft.write_all(bytes)?;
        draft.publish()
    }

    /// Removes what was not used for longest until the rest may stay, and drafts that somebody left; never `kept`.
    fn trim(&self, kept: &str) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let mut files: Vec<Entry> = entries.flatten().filter_map(|entry| Entry::of(&entry)).collect();
        files.sort_by_key(|file| file.used);
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files.iter().filter(|file| file.name != kept) {
            if bytes > self.most || file.is_left() {
                log::debug!("{} goes from the cache", file.name);
                bytes -= fs::remove_file(self.folder.join(&file.name)).map_or(0, |()| file.bytes);
            }
        }
    }
}

/// A file of ours in the folder.
struct Entry {
    name: String,
    bytes: u64,
    used: SystemTime,
}

impl Entry {
    fn of(entry: &fs::DirEntry) -> Option<Entry> {
        let name = entry.file_name().into_string().ok()?;
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let ours = name.starts_with(DRAFT) || ENDINGS.iter().any(|ending| is_named(&name, ending));
        ours.then_some(Entry {
            name,
            bytes: metadata.len(),
            used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    fn is_left(&self) -> bool {
        self.name.starts_with(DRAFT) && self.used.elapsed().is_ok_and(|age| age > DAY)
    }
}

/// Stands for `what` in names of files.
#[cfg(feature = "vulkan")]
pub(crate) fn number(what: &impl std::hash::Hash) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    what.hash(&mut hasher);
    hasher.digest128()
}

/// The name of what `number` stands for.
pub(crate) fn name(number: u128, ending: &'static str) -> String {
    debug_assert!(ENDINGS.contains(&ending), "{ending} files are not known to be ours");
    format!("{number:032x}.{ending}")
}

fn is_named(name: &str, ending: &str) -> bool {
    name.strip_suffix(ending)
        .and_then(|stem| stem.strip_suffix('.'))
        .is_some_and(|stem| stem.len() == 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The date of content is that of use: many file systems do not keep the latter.
fn touch(file: &Path) -> io::Result<()> {
    let used = fs::metadata(file)?.modified()?;
    if used.elapsed().is_ok_and(|age| age < DAY) {
        return Ok(());
    }
    File::options().append(true).open(file)?.set_modified(SystemTime::now())
}

/// A file that nobody else sees yet; dropped, it is gone.
pub(crate) struct Draft {
    cache: Cache,
    name: String,
    file: NamedTempFile,
}

impl Draft {
    /// What was written so far.
    pub(crate) fn map(&self) -> io::Result<Mapped> {
        Mapped::of(self.file.as_file())
    }

    /// Puts the file on the disk and gives it its name.
    pub(crate) fn publish(self) -> io::Result<()> {
        let Draft { cache, name, file } = self;
        file.as_file().sync_data()?;
        file.persist(cache.folder.join(&name)).map_err(|error| error.error)?;
        cache.trim(&name);
        Ok(())
    }

    /// The same while other work goes on.
    pub(crate) fn publish_aside(self) -> Publishing {
        let thread = std::thread::Builder::new().name("undiffuse-cache".into());
        let started = thread.spawn(|| self.publish().unwrap_or_else(|error| not_kept(&error)));
        Publishing(started.map_err(|error| not_kept(&error)).ok())
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file on its way to the disk, waited for when this is dropped.
pub(crate) struct Publishing(Option<JoinHandle<()>>);

impl Drop for Publishing {
    fn drop(&mut self) {
        // A panic of that thread has cost the file, nothing else.
        self.0.take().map(JoinHandle::join);
    }
}

/// Says that the next start will not be faster.
pub(crate) fn not_kept(error: &dyn std::fmt::Display) {
    log::info!("what was prepared is not kept for the next start: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(cache: &Cache, number: u128, bytes: usize) -> String {
        let name = name(number, "plan");
        let mut draft = cache.draft(&name, bytes as u64).unwrap();
        draft.write_all(&vec![7; bytes]).unwrap();
        draft.publish().unwrap();
        name
    }

    fn age(cache: &Cache, name: &str, days: u32) {
        let file = File::options().append(true).open(cache.folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - DAY * days).unwrap();
    }

    fn names(cache: &Cache) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&cache.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_used_last_stays() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("new/folder")).limited(250);
        let [a, b] = [write(&cache, 1, 100), write(&cache, 2, 100)];
        age(&cache, &a, 3);
        age(&cache, &b, 2);
        assert_eq!(cache.find(&a).unwrap().bytes(), [7; 100], "a is used now");
        let c = write(&cache, 3, 100);
        assert_eq!(names(&cache), [a, c]);
        assert!(cache.find(&b).is_none());
    }

    #[test]
    fn only_files_of_ours_go() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path()).limited(150);
        for name in ["letter.txt", "letter.plan", ".undiffuse-left", ".undiffuse-new"] {
            fs::write(folder.path().join(name), [0; 500]).unwrap();
            age(&cache, name, 30);
        }
        age(&cache, ".undiffuse-new", 0);
        let a = write(&cache, 1, 100);
        assert_eq!(names(&cache), [a.as_str(), "letter.plan", "letter.txt"]);
        assert!(cache.draft("too large", 151).is_err());
        drop(cache.draft("unfinished", 1).unwrap());
        assert_eq!(names(&cache).len(), 3);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Cache::new(file.path().join("below")).draft("a", 1).is_err());
    }
}
