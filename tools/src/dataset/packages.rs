//! The pinned npm packages: fetched with the `npm` client, checked, kept in a cache folder.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// A package of the npm registry, pinned by version and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Name in the registry.
    pub name: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// SHA-256 of the `.tgz` that `npm pack` writes, in hexadecimal.
    pub sha256: &'static str,
    /// SPDX expression for what is taken from the package (for drawings: of the drawings).
    pub licence: &'static str,
}

macro_rules! package {
    ($constant:ident, $name:literal, $version:literal, $licence:literal, $sha256:literal) => {
        #[doc = concat!("`", $name, "` ", $version, ".")]
        pub const $constant: Package = Package { name: $name, version: $version, sha256: $sha256, licence: $licence };
    };
}

package!(
    FLUENT_3D,
    "@lobehub/fluent-emoji-3d",
    "1.1.0",
    "MIT",
    "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
);
package!(
    FLUENT_COLOR,
    "@iconify-json/fluent-emoji",
    "1.2.7",
    "MIT",
    "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b"
);
package!(
    FLUENT_FLAT,
    "@iconify-json/fluent-emoji-flat",
    "1.2.6",
    "MIT",
    "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"
);
package!(
    NOTO,
    "@iconify-json/noto",
    "1.2.9",
    "Apache-2.0",
    "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"
);
package!(
    NOTO_BLOB,
    "@iconify-json/noto-v1",
    "1.2.5",
    "Apache-2.0",
    "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"
);
package!(
    TWEMOJI,
    "@iconify-json/twemoji",
    "1.2.5",
    "CC-BY-4.0",
    "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"
);
package!(
    EMOJIONE,
    "@iconify-json/emojione",
    "1.2.3",
    "CC-BY-4.0",
    "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"
);
// iconify says Apache-2.0, which upstream's LICENSE.md gives to the code alone.
package!(
    FXEMOJI,
    "@iconify-json/fxemoji",
    "1.2.2",
    "CC-BY-4.0",
    "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"
);
package!(
    STREAMLINE,
    "@iconify-json/streamline-emojis",
    "1.2.4",
    "CC-BY-4.0",
    "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc"
);
package!(
    CLDR,
    "cldr-annotations-full",
    "48.2.0",
    "Unicode-3.0",
    "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1"
);
package!(
    CLDR_DERIVED,
    "cldr-annotations-derived-full",
    "48.2.0",
    "Unicode-3.0",
    "4be946ff5815f806ec78b50363d577a769f2fbfb90c6380a44e161a92436996e"
);
package!(
    EMOJIBASE,
    "emojibase-data",
    "17.0.0",
    "MIT",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a"
);

/// All packages that a data set is made from.
pub const ALL: [Package; 12] = [
    FLUENT_3D,
    FLUENT_COLOR,
    FLUENT_FLAT,
    NOTO,
    NOTO_BLOB,
    TWEMOJI,
    EMOJIONE,
    FXEMOJI,
    STREAMLINE,
    CLDR,
    CLDR_DERIVED,
    EMOJIBASE,
];

impl Package {
    /// The name that `npm pack` gives the archive.
    pub fn file_name(&self) -> String {
        format!("{}-{}.tgz", self.name.trim_start_matches('@').replace('/', "-"), self.version)
    }

    /// The archive in the folder `cache`, fetched first if it is not there.
    ///
    /// # Errors
    /// If npm is not installed or fails, or the archive has another checksum than the pinned one.
    pub fn fetch(&self, cache: &Path) -> Result<PathBuf> {
        let path = cache.join(self.file_name());
        if path.exists() {
            self.verify(&path)?;
            return Ok(path);
        }
        log::info!("fetching {}@{}", self.name, self.version);
        let folder = tempfile::tempdir_in(cache).with_context(|| format!("cannot write into {}", cache.display()))?;
        self.npm_pack(folder.path())?;
        let fetched = folder.path().join(self.file_name());
        self.verify(&fetched)?;
        fs::rename(&fetched, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn npm_pack(&self, folder: &Path) -> Result<()> {
        let spec = format!("{}@{}", self.name, self.version);
        let output = Command::new("npm")
            .args(["pack", "--silent", "--ignore-scripts", "--pack-destination"])
            .arg(folder)
            .arg(&spec)
            .output()
            .context("cannot run `npm`: install it (Debian: apt-get install npm)")?;
        ensure!(
            output.status.success(),
            "`npm pack {spec}` failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    fn verify(&self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let found: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        ensure!(
            found == self.sha256,
            "{} has sha256 {found}, not the pinned {}: delete it and try again; if it stays so, the registry serves \
             another {}@{} than the one this was written for",
            path.display(),
            self.sha256,
            self.name,
            self.version
        );
        Ok(())
    }
}

/// An archive of npm, read front to back: its paths all begin with `package/`.
pub struct Archive {
    path: PathBuf,
}

impl Archive {
    /// Fetches `package` into `cache` if need be.
    ///
    /// # Errors
    /// As [`Package::fetch`].
    pub fn open(package: &Package, cache: &Path) -> Result<Self> {
        Ok(Self { path: package.fetch(cache)? })
    }

    /// The files whose path, without `package/`, satisfies `wanted`, in the archive's order.
    ///
    /// # Errors
    /// If the archive is damaged.
    pub fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
        self.read(wanted).with_context(|| format!("cannot read {}", self.path.display()))
    }

    fn read(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(&self.path)?));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let path = path.strip_prefix("package/").unwrap_or(&path);
            if wanted(path) {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                files.push((path.to_owned(), bytes));
            }
        }
        Ok(files)
    }

    /// A JSON file of the archive.
    ///
    /// # Errors
    /// If there is no such file or it is not of the shape `T`.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T> {
        let Some((_, bytes)) = self.files(|path| path == file)?.pop() else {
            bail!("{} has no file {file}", self.path.display());
        };
        serde_json::from_slice(&bytes).with_context(|| format!("malformed {file} in {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(folder: &Path, package: &Package) -> PathBuf {
        let path = folder.join(package.file_name());
        let file = fs::File::create(&path).unwrap();
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
        for (name, text) in [("package/a.json", "[1, 2]"), ("package/b/c.txt", "c")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap();
        path
    }

    #[test]
    fn names_archives_as_npm_does() {
        assert_eq!(FLUENT_3D.file_name(), "lobehub-fluent-emoji-3d-1.1.0.tgz");
        assert_eq!(CLDR.file_name(), "cldr-annotations-full-48.2.0.tgz");
    }

    #[test]
    fn a_cached_archive_with_another_checksum_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path(), &NOTO);
        let message = format!("{:#}", NOTO.fetch(folder.path()).unwrap_err());
        assert!(message.contains("noto-1.2.9.tgz has sha256 ") && message.contains(NOTO.sha256), "{message}");
    }

    #[test]
    fn reads_files_of_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let archive = Archive { path: archive(folder.path(), &NOTO) };
        assert_eq!(archive.json::<Vec<u32>>("a.json").unwrap(), [1, 2]);
        assert_eq!(archive.files(|path| path.starts_with("b/")).unwrap(), [("b/c.txt".to_owned(), b"c".to_vec())]);
        let message = |file| format!("{:#}", archive.json::<Vec<u32>>(file).unwrap_err());
        assert!(message("d.json").contains("has no file d.json"));
        assert!(message("b/c.txt").contains("malformed b/c.txt in "));
    }

    #[test]
    fn a_damaged_archive_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), &NOTO);
        fs::write(&path, &fs::read(&path).unwrap()[..40]).unwrap();
        let message = format!("{:#}", Archive { path }.files(|_| true).unwrap_err());
        assert!(message.contains("cannot read ") && message.contains("noto-1.2.9.tgz"), "{message}");
    }
}
