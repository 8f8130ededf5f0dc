//! Which model `generate` runs when none is named.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

const VARIABLE: &str = "UNDIFFUSE_MODEL";
/// Taken where several models lie side by side.
const SHIPPED: &str = "sticker-64";

/// `UNDIFFUSE_MODEL`, else the model in `models/` beside the executable, in `../share/undiffuse`, or in the source tree that this
/// was built from.
pub fn default_model() -> Result<PathBuf> {
    match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        Some(path) => Ok(path.into()),
        None => find_in(&places()),
    }
}

fn places() -> Vec<PathBuf> {
    let executable = std::env::current_exe().ok().and_then(|exe| exe.canonicalize().ok());
    let beside = executable.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let installed = beside.iter().flat_map(|dir| [dir.join("models"), dir.join("../share/undiffuse")]);
    installed.chain([Path::new(env!("CARGO_MANIFEST_DIR")).join("models")]).collect()
}

fn find_in(places: &[PathBuf]) -> Result<PathBuf> {
    for place in places {
        let models = models_in(place);
        match models.as_slice() {
            [] => {}
            [only] => return Ok(only.clone()),
            several => return choose(place, several),
        }
    }
    let looked: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    bail!("no model found: {VARIABLE} is not set, and there is none in {}; name one with --model", looked.join(", "))
}

fn choose(place: &Path, models: &[PathBuf]) -> Result<PathBuf> {
    let names: Vec<_> =
        models.iter().filter_map(|model| model.file_name()).map(|name| name.to_string_lossy()).collect();
    match names.iter().position(|name| name == SHIPPED) {
        Some(index) => Ok(models[index].clone()),
        None => bail!("{} holds several models: {}; name one with --model", place.display(), names.join(", ")),
    }
}

fn models_in(place: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(place) else { return vec![] };
    let mut models: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join("model_index.json").is_file()).collect();
    models.sort();
    models
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(place: &Path, name: &str) -> PathBuf {
        let dir = place.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("model_index.json"), "{}").unwrap();
        dir
    }

    #[test]
    fn the_only_model_of_the_first_place_that_has_one() {
        let (empty, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path().join("no-model")).unwrap();
        let places = [empty.path().join("missing"), empty.path().into(), place.path().into()];
        let looked = find_in(&places).unwrap_err().to_string();
        for place in &places {
            assert!(looked.contains(&place.display().to_string()), "{looked}");
        }
        let only = model(place.path(), "b");
        assert_eq!(find_in(&places).unwrap(), only);
    }

    #[test]
    fn among_several_the_shipped_one() {
        let place = tempfile::tempdir().unwrap();
        let places = [place.path().to_path_buf()];
        model(place.path(), "a");
        model(place.path(), "b");
        let several = find_in(&places).unwrap_err().to_string();
        assert!(several.ends_with("holds several models: a, b; name one with --model"), "{several}");
        let shipped = model(place.path(), SHIPPED);
        assert_eq!(find_in(&places).unwrap(), shipped);
    }
}
