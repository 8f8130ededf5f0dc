//! Where commands keep plans and packed weights.

use crate::engine::Cache;
use etcetera::BaseStrategy;
use std::path::PathBuf;

const VARIABLE: &str = "UNDIFFUSE_CACHE";

/// Options of commands that run models.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep compiled plans and packed weights in this folder, for a fast next start [default: $UNDIFFUSE_CACHE, else undiffuse in the user's
    /// folder for caches]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Keep nothing, as with an empty $UNDIFFUSE_CACHE
    #[arg(long, conflicts_with = "cache")]
    no_cache: bool,
}

impl Args {
    /// `None` where nothing is to be kept, or where the user has no folder for such things.
    pub fn cache(&self) -> Option<Cache> {
        let folder = match (&self.cache, std::env::var_os(VARIABLE)) {
            _ if self.no_cache => None,
            (Some(folder), _) => Some(folder.clone()),
            (None, Some(folder)) => Some(PathBuf::from(folder)).filter(|folder| !folder.as_os_str().is_empty()),
            (None, None) => default_folder(),
        };
        folder.map(Cache::new)
    }
}

/// `$XDG_CACHE_HOME/undiffuse`, `~/.cache/undiffuse`, or what stands for it on Windows.
fn default_folder() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("undiffuse"))
}
