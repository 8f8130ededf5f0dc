//! [`Model`]: a directory in the diffusers ONNX layout, as diffusers' own script or optimum-onnx writes it.

use super::config::{Fields, Settings, StageConfig};
use super::dialect;
use super::onnx::Graph;
use super::role::Role;
use super::scheduler_config::SchedulerConfig;
use crate::error::{Error, ErrorKind, Result, fail};
use std::path::{Path, PathBuf};

/// A model: its stages as a list, its scheduler, its settings. Graphs are not read before they are asked for.
#[derive(Debug, Clone)]
pub struct Model {
    root: PathBuf,
    class: Option<String>,
    stages: Vec<Stage>,
    scheduler: SchedulerConfig,
    settings: Settings,
}

/// One graph of a model, not yet read.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its folder: `unet`.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its ONNX file.
    pub file: PathBuf,
    /// What its `config.json` says.
    pub config: StageConfig,
}

impl Model {
    /// Opens `root` and reads its configs; the graphs stay on disk.
    ///
    /// # Errors
    /// `NotFound` where there is no such directory, no `model_index.json`, or no text encoder, denoiser or decoder as an ONNX file; `Malformed` for broken JSON; `Unsupported` for an unknown scheduler class. Each names the file.
    pub fn open(root: impl AsRef<Path>) -> Result<Model> {
        let root = root.as_ref();
        if !root.is_dir() {
            return Err(not_a_directory(root));
        }
        let index = Fields::read(&root.join("model_index.json")).map_err(|error| {
            error.advise("a model is a directory in the diffusers ONNX layout, as optimum-onnx exports it")
        })?;
        let model = Model {
            root: root.to_path_buf(),
            class: index.text("_class_name")?.map(str::to_owned),
            stages: stages(root)?,
            scheduler: SchedulerConfig::read(&root.join("scheduler"))?,
            settings: Settings::read(root)?,
        };
        REQUIRED.into_iter().try_for_each(|role| model.stage(role).map(drop))?;
        Ok(model)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory's own name, for reports.
    pub fn name(&self) -> String {
        let path = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// The pipeline class in `model_index.json`: `StableDiffusionPipeline`.
    pub fn class(&self) -> Option<&str> {
        self.class.as_deref()
    }

    /// All stages, in the order of a run.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The stage with `role`.
    ///
    /// # Errors
    /// `NotFound` that names the folder it should stand in.
    pub fn stage(&self, role: Role) -> Result<&Stage> {
        self.stages.iter().find(|stage| stage.role == role).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("the model has no {role}"))
                .in_file(&self.root)
                .advise(format!("{} with a model.onnx is missing", role.folders()))
        })
    }

    /// What `scheduler/scheduler_config.json` says.
    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// What `undiffuse.json` says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The folder with the tokenizer's files.
    pub fn tokenizer(&self) -> PathBuf {
        self.root.join("tokenizer")
    }
}

impl Stage {
    /// Reads and checks the graph, and that it does what the stage is for.
    ///
    /// # Errors
    /// Those of [`Graph::open`], and `Mismatch` when another graph stands in its place, `Unsupported` when it needs inputs that are not known.
    pub fn open(&self) -> Result<Graph> {
        let graph = Graph::open(&self.file)?;
        self.check(&graph)?;
        Ok(graph)
    }

    /// Checks that `graph` does what the stage is for.
    ///
    /// # Errors
    /// `Mismatch` when another graph stands in its place, `Unsupported` when it needs inputs that are not known.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        dialect::check(self.role, graph)
    }

    /// Bytes of all files in the stage's folder.
    pub fn bytes(&self) -> u64 {
        let entries = self.file.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| std::fs::metadata(entry.path()).ok())
            .map(|file| file.len())
            .sum()
    }
}

fn not_a_directory(root: &Path) -> Error {
    let what = if root.exists() { "is not a directory" } else { "no such directory" };
    Error::new(ErrorKind::NotFound, what).in_file(root).advise("give a directory in the diffusers ONNX layout")
}

/// Without these there is no picture.
const REQUIRED: [Role; 3] = [Role::TextEncoder, Role::Denoiser, Role::Decoder];

/// Order of a run.
const ORDER: [Role; 8] = [
    Role::TextEncoder,
    Role::SecondTextEncoder,
    Role::Encoder,
    Role::Denoiser,
    Role::Decoder,
    Role::Upscaler,
    Role::Checker,
    Role::Other,
];

/// Every folder with an ONNX file. What `model_index.json` declares is no guide: exporters leave parts out and keep them there.
fn stages(root: &Path) -> Result<Vec<Stage>> {
    let mut stages = Vec::new();
    for name in folders(root)? {
        stages.extend(stage(root, &name)?);
    }
    stages.sort_by_key(|stage| (ORDER.iter().position(|role| *role == stage.role), stage.name.clone()));
    Ok(stages)
}

fn folders(root: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(root).map_err(|error| Error::io("read", root, error))?;
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn stage(root: &Path, name: &str) -> Result<Option<Stage>> {
    let (folder, role) = (root.join(name), Role::of_folder(name));
    let Some(file) = onnx_file(&folder)? else {
        return if REQUIRED.contains(&role) { Err(no_onnx(&folder)) } else { Ok(None) };
    };
    let config = StageConfig::of(role, &Fields::read_optional(&folder.join("config.json"))?)?;
    Ok(Some(Stage { name: name.to_owned(), role, file, config }))
}

/// `model.onnx`, else the only ONNX file there is.
fn onnx_file(folder: &Path) -> Result<Option<PathBuf>> {
    let usual = folder.join("model.onnx");
    if usual.exists() {
        return Ok(Some(usual));
    }
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read", folder, error))?;
    let is_onnx = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "onnx");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_onnx).collect();
    if files.len() > 1 {
        return fail!(Malformed, "has {} ONNX files and none is called model.onnx", files.len())
            .map_err(|error: Error| error.in_file(folder).advise("keep one, or rename it"));
    }
    Ok(files.pop())
}

fn no_onnx(folder: &Path) -> Error {
    let torch = [
        "diffusion_pytorch_model.safetensors",
        "model.safetensors",
        "diffusion_pytorch_model.bin",
        "pytorch_model.bin",
    ];
    let found = torch.iter().find(|name| folder.join(name).exists());
    let what = found.map_or("has no ONNX file".into(), |name| format!("has no ONNX file, only {name}"));
    Error::new(ErrorKind::NotFound, what).in_file(folder).advise("export the model with `optimum-cli export onnx`")
}
