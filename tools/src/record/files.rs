//! Which files something was made from: their checksums.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The checksum of a file, in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The checksum of every file of a folder, by path.
///
/// # Errors
/// If one cannot be read.
pub fn hashes(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for path in paths(folder)? {
        let hash = sha256(&folder.join(&path))?;
        all.insert(path, hash);
    }
    Ok(all)
}

/// The checksums of a model directory's graphs, by path.
///
/// # Errors
/// If one cannot be read.
pub fn graphs(model: &Path) -> Result<BTreeMap<String, String>> {
    let hashed = |path: String| Ok((path.clone(), sha256(&model.join(path))?));
    paths(model)?.into_iter().filter(|path| path.ends_with(".onnx")).map(hashed).collect()
}

/// What a file is called in `folder`, or, if it does not lie there, its name.
pub fn name_in(folder: &Path, file: &Path) -> String {
    let inner = file.strip_prefix(folder).ok().filter(|inner| inner.components().count() > 0);
    inner.map_or_else(|| super::file_name(file), |inner| inner.to_string_lossy().replace('\\', "/"))
}

/// Every file of a folder and of those in it, with `/` between the names, in order.
///
/// # Errors
/// If a folder cannot be read.
pub fn paths(folder: &Path) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            all.extend(paths(&entry.path())?.into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            all.push(name);
        }
    }
    all.sort();
    Ok(all)
}

/// The beginning of a checksum.
pub fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_a_folder_has_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("unet")).unwrap();
        fs::write(folder.path().join("unet/model.onnx"), "abc").unwrap();
        let found = hashes(folder.path()).unwrap();
        // `printf abc | sha256sum`
        assert_eq!(found["unet/model.onnx"], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
