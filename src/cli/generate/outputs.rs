//! Where pictures and latents go: names, and that they can be written, before any work.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::pipeline::{Generated, OutputFile};

/// The files of one picture.
pub struct Output {
    picture: OutputFile,
    latents: Option<OutputFile>,
}

impl Output {
    pub fn picture(&self) -> &Path {
        self.picture.path()
    }

    pub fn latents(&self) -> Option<&Path> {
        self.latents.as_ref().map(OutputFile::path)
    }

    pub fn write(&self, made: &Generated) -> Result<()> {
        self.picture.write(&made.to_png()?)?;
        if let Some(file) = &self.latents {
            file.write_with(|path| crate::npy::write(path, &made.latents))?;
        }
        Ok(())
    }
}

/// Checks the files of `count` pictures: the names themselves for one, numbered from 0001 for more.
pub fn check(picture: &Path, latents: Option<&Path>, count: usize) -> Result<Vec<Output>> {
    if picture.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("png")) {
        bail!("{}: pictures are written as PNG; give the file a name that ends in .png", picture.display());
    }
    let file =
        |path: &Path, index: usize| OutputFile::at(&if count == 1 { path.into() } else { numbered(path, index) });
    (1..=count)
        .map(|index| {
            Ok(Output { picture: file(picture, index)?, latents: latents.map(|path| file(path, index)).transpose()? })
        })
        .collect()
}

/// `out.png` becomes `out-0001.png`.
fn numbered(path: &Path, index: usize) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{index:04}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_picture_keeps_its_name_and_several_are_numbered() {
        let dir = tempfile::tempdir().unwrap();
        let (picture, latents) = (dir.path().join("a.b.png"), dir.path().join("z"));
        let one = check(&picture, None, 1).unwrap();
        assert_eq!((one[0].picture(), one[0].latents()), (picture.as_path(), None));
        let two = check(&picture, Some(&latents), 2).unwrap();
        assert_eq!(two[1].picture(), dir.path().join("a.b-0002.png"));
        assert_eq!(two[1].latents(), Some(dir.path().join("z-0002").as_path()));
    }

    #[test]
    fn other_formats_are_refused() {
        let error = check(Path::new("a.jpg"), None, 1).err().unwrap().to_string();
        assert_eq!(error, "a.jpg: pictures are written as PNG; give the file a name that ends in .png");
    }
}
