//! Makes the data, trains, distils, exports and evaluates the models that `undiffuse` ships. One module a stage; the binary has
//! one subcommand a stage.

pub mod dataset;
