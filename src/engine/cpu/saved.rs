//! Plans and packed weights on disk.
//!
//! A `plan` file holds all of a plan in its head, with the names of weights instead of their content. A `weights` file holds what the
//! [needs](super::store::needs) of plans list, in that order, so that where each lies follows from the plan; its head says of what it was made.
//! Plans for other shapes need the same weights and find the same file.

use super::store::{Need, Store};
use crate::cache::{self, ALIGN, Cache, Draft, Publishing};
use crate::engine::{Threads, Weights};
use crate::graph::net::Content;
use crate::graph::place;
use crate::graph::plan::{Fixed, Plan};
use crate::model::Graph;
use crate::model::mapped::Mapped;
use crate::model::weights::Weight;
use crate::op::view::View;
use crate::value::{Data, Tensor};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// What is kept of one graph, in one folder.
pub(super) struct Saved {
    cache: Cache,
    file: PathBuf,
    stamp: u128,
    /// Values that are outputs beside the graph's own.
    watched: Vec<String>,
    weights: Weights,
}

/// The head of a `plan` file.
#[derive(Serialize, Deserialize)]
struct SavedPlan {
    stamp: u128,
    shapes: Vec<Vec<usize>>,
    watched: Vec<String>,
    plan: Plan,
    fixed: Vec<SavedFixed>,
}

#[derive(Serialize, Deserialize)]
struct SavedFixed {
    name: String,
    content: SavedContent,
}

#[derive(Serialize, Deserialize)]
enum SavedContent {
    Constant(Vec<usize>, Data),
    Weight(String, View),
}

impl Saved {
    pub(super) fn new(graph: &Graph, weights: Weights, cache: &Cache) -> Saved {
        let file = graph.file().canonicalize().unwrap_or_else(|_| graph.file().to_path_buf());
        Saved { cache: cache.clone(), file, stamp: graph.stamp(), watched: graph.watched(), weights }
    }

    /// A model that changes takes the name of what it was, so that nothing is left behind.
    fn name(&self, what: impl Hash, ending: &'static str) -> String {
        let mut hasher = Xxh3::new();
        (&self.file, self.weights.name(), what).hash(&mut hasher);
        cache::name(hasher.digest128(), ending)
    }

    fn plan_name(&self, shapes: &[Vec<usize>]) -> String {
        self.name((shapes, &self.watched), "plan")
    }

    /// The plan of `graph` for `shapes`, if it was kept.
    pub(super) fn plan(&self, graph: &Graph, shapes: &[Vec<usize>]) -> Option<Plan> {
        let file = self.cache.find(&self.plan_name(shapes))?;
        let (saved, _) = cache::open::<SavedPlan>(file.bytes())?;
        let weights: HashMap<&str, &Weight> =
            graph.weights().iter().map(|weight| (weight.name.as_str(), weight)).collect();
        let fixed = saved.fixed.into_iter().map(|fixed| restored(fixed, &weights)).collect::<Option<_>>()?;
        let plan = Plan { fixed, ..saved.plan };
        let same_model = saved.stamp == self.stamp && plan.weights == self.weights;
        (same_model && saved.shapes == shapes && saved.watched == self.watched && place::check(&plan).is_ok())
            .then_some(plan)
    }

    /// Keeps a plan for `shapes`; that it cannot be kept is only logged.
    pub(super) fn keep_plan(&self, plan: &Plan, shapes: &[Vec<usize>]) {
        let fixed = plan.fixed.iter().map(saved).collect();
        let (stamp, shapes, watched) = (self.stamp, shapes.to_vec(), self.watched.clone());
        let head = SavedPlan { stamp, shapes, watched, plan: Plan { fixed: Vec::new(), ..plan.clone() }, fixed };
        let written = cache::seal(&head, 0).map_err(io::Error::other).and_then(|bytes| {
            let mut draft = self.cache.draft(&self.plan_name(&head.shapes), bytes.len() as u64)?;
            draft.write_all(&bytes)?;
            draft.publish()
        });
        written.unwrap_or_else(|error| cache::not_kept(&error));
    }

    /// The weights that `needs` list, if they were kept.
    pub(super) fn weights(&self, needs: &[Need]) -> Option<Store> {
        self.read(self.cache.find(&self.weights_name(needs))?, needs)
    }

    fn weights_name(&self, needs: &[Need]) -> String {
        self.name(digest(needs), "weights")
    }

    /// Of what the weights are, and which.
    fn weights_head(&self, needs: &[Need]) -> (u128, u128) {
        (self.stamp, digest(needs))
    }

    fn read(&self, file: Mapped, needs: &[Need]) -> Option<Store> {
        let (head, content) = cache::open(file.bytes())?;
        let (offsets, length) = layout(needs);
        if self.weights_head(needs) != head || content.len() != length {
            return None;
        }
        let file = Arc::new(file);
        let entry =
            |(need, offset): (&Need, usize)| Some((need.key.clone(), need.read(&file, content.start + offset, ALIGN)?));
        let entries = needs.iter().zip(offsets).map(entry).collect::<Option<_>>()?;
        Some(Store::mapped(entries, file.clone()))
    }

    /// Packs what `needs` list into a file, one after the other, so that no more than one of them is in memory, and gives them as they lie
    /// there. The file gets its name in the meantime.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn keep_weights(&self, needs: &[Need], threads: &Threads) -> io::Result<(Store, Publishing)> {
        let (_, length) = layout(needs);
        let head = cache::seal(&self.weights_head(needs), length).map_err(io::Error::other)?;
        let draft = self.cache.draft(&self.weights_name(needs), (head.len() + length) as u64)?;
        let mut file = BufWriter::new(draft);
        file.write_all(&head)?;
        for need in needs {
            for piece in need.make(threads).pieces() {
                file.write_all(piece)?;
                file.write_all(&[0; ALIGN][..piece.len().next_multiple_of(ALIGN) - piece.len()])?;
            }
        }
        let draft: Draft = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let store =
            self.read(draft.map()?, needs).ok_or_else(|| io::Error::other("it reads otherwise than written"))?;
        Ok((store, draft.publish_aside()))
    }

    pub(super) fn folder(&self) -> &Path {
        self.cache.folder()
    }
}

fn digest(needs: &[Need]) -> u128 {
    let mut hasher = Xxh3::new();
    needs.iter().for_each(|need| need.key.hash(&mut hasher));
    hasher.digest128()
}

/// Where each of the needs begins, and where the last ends.
fn layout(needs: &[Need]) -> (Vec<usize>, usize) {
    let mut end = 0;
    let begin = |need: &Need| {
        let (count, bytes) = need.parts();
        let begin = end;
        end += count * bytes.next_multiple_of(ALIGN);
        begin
    };
    (needs.iter().map(begin).collect(), end)
}

fn saved(fixed: &Fixed) -> SavedFixed {
    let content = match &fixed.content {
        Content::Constant(tensor) => SavedContent::Constant(tensor.shape().to_vec(), tensor.data().clone()),
        Content::Weight(weight, view) => SavedContent::Weight(weight.name.clone(), view.clone()),
        Content::Computed => unreachable!("a computed value is not fixed"),
    };
    SavedFixed { name: fixed.name.clone(), content }
}

fn restored(fixed: SavedFixed, weights: &HashMap<&str, &Weight>) -> Option<Fixed> {
    let content = match fixed.content {
        SavedContent::Constant(shape, data) => Content::Constant(Arc::new(Tensor::new(&shape, data).ok()?)),
        SavedContent::Weight(name, view) => Content::Weight(Arc::new((*weights.get(name.as_str())?).clone()), view),
    };
    Some(Fixed { name: fixed.name, content })
}
