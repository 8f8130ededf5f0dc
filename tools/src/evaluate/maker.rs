//! Pictures of one model, several at a time: a single-threaded pipeline a core, since pictures are independent of each other.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, anyhow};
use indicatif::ProgressBar;
use serde::Serialize;
use undiffuse::pipeline::{Options, Picture, Pipeline, Prompt, Request};

/// Steps and guidance; `None` is the model's choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    pub steps: Option<usize>,
    pub guidance: Option<f64>,
    /// As the model's pictures are shown, enlarged, and not as they are decoded.
    pub shown: bool,
}

/// One picture to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub prompt: String,
    pub seed: u64,
}

/// How pictures were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct With {
    pub sampler: String,
    pub steps: usize,
    pub guidance: f64,
}

/// Pictures in the order in which they were asked for.
pub struct Made {
    pub pictures: Vec<Picture>,
    pub with: With,
}

/// A model, opened once a core.
pub struct Maker {
    folder: PathBuf,
    pub how: How,
    pipelines: Vec<Pipeline>,
}

impl Maker {
    /// # Errors
    /// Those of [`Pipeline::open`].
    pub fn open(folder: &Path, how: How, cores: usize) -> Result<Self> {
        let one = || Options { threads: Some(NonZeroUsize::MIN), ..Options::default() };
        let pipelines = (0..cores).map(|_| Pipeline::open(folder, one())).collect::<Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), how, pipelines })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes all of them with the maker's own steps and guidance: see [`Self::make_as`].
    ///
    /// # Errors
    /// Those of [`Self::make_as`].
    pub fn make(&mut self, asked: &[Asked]) -> Result<Made> {
        self.make_as(asked, self.how)
    }

    /// Makes all of them, with a progress bar.
    ///
    /// # Errors
    /// If nothing is asked for, or one cannot be made; the others are then given up.
    pub fn make_as(&mut self, asked: &[Asked], how: How) -> Result<Made> {
        let (bar, next) = (ProgressBar::new(asked.len() as u64), AtomicUsize::new(0));
        let work = |pipeline: &mut Pipeline| {
            let mut mine = vec![];
            while let Some((i, one)) = take(&next, asked) {
                // The other workers stop when this one fails.
                mine.push((i, one_of(pipeline, one, how).inspect_err(|_| next.store(asked.len(), Ordering::Relaxed))?));
                bar.inc(1);
            }
            Ok(mine)
        };
        let parts = std::thread::scope(|scope| {
            let work = &work;
            let workers: Vec<_> = self.pipelines.iter_mut().map(|p| scope.spawn(move || work(p))).collect();
            let join = |worker: ScopedJoinHandle<'_, Result<Vec<_>>>| {
                worker.join().map_err(|_| anyhow!("a worker panicked"))?
            };
            workers.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        let mut made: Vec<(usize, (Picture, With))> = parts.into_iter().flatten().collect();
        bar.finish_and_clear();
        made.sort_by_key(|(i, _)| *i);
        let with = made.first().context("no picture was asked for")?.1.1.clone();
        Ok(Made { pictures: made.into_iter().map(|(_, (picture, _))| picture).collect(), with })
    }
}

/// The next one that nobody makes yet.
fn take<'a>(next: &AtomicUsize, asked: &'a [Asked]) -> Option<(usize, &'a Asked)> {
    let i = next.fetch_add(1, Ordering::Relaxed);
    Some((i, asked.get(i)?))
}

fn one_of(pipeline: &mut Pipeline, asked: &Asked, how: How) -> Result<(Picture, With)> {
    let mut request = Request::new(Prompt::new(asked.prompt.as_str())?);
    (request.seed, request.steps, request.guidance, request.native) = (asked.seed, how.steps, how.guidance, !how.shown);
    let made = pipeline.generate(&request, |_| ControlFlow::Continue(()))?;
    let with = With { sampler: made.report.sampler, steps: made.report.steps, guidance: made.report.guidance };
    Ok((made.picture, with))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_is_taken_once() {
        let asked: Vec<Asked> = (0..100).map(|seed| Asked { prompt: "a".into(), seed }).collect();
        let next = AtomicUsize::new(0);
        let taken: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let all = || std::iter::from_fn(|| take(&next, &asked)).map(|(i, _)| i).collect();
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(all)).collect();
            workers.into_iter().map(|w| w.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 100);
        assert_eq!(taken.concat().into_iter().collect::<BTreeSet<_>>(), (0..100).collect());
    }
}
