//! Makes the data, trains, distils, exports and evaluates the models that `undiffuse` ships. One module a stage; the binary has
//! one subcommand a stage.

pub mod card;
pub mod dataset;
pub mod draws;
pub mod evaluate;
pub mod export;
#[cfg(feature = "train")]
pub mod lesson;
pub mod net;
pub mod picture;
pub mod plot;
pub mod quantise;
pub mod record;
pub mod table;
#[cfg(feature = "train")]
pub mod train;
pub mod trained;
pub mod wordnet;
pub mod words;
