//! [`Board`]: what is publicly known of a machine, so that plans can be made for it on another one, and on it within what is known.

mod profile;

pub use profile::{Board, Given, Measured, Peak, Processor};

use crate::error::{Error, Result};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The files of `boards/`, by their names.
const SHIPPED: [(&str, &str); 5] = [
    ("generic", include_str!("../boards/generic.toml")),
    ("jetson-orin-nano", include_str!("../boards/jetson-orin-nano.toml")),
    ("raspberry-pi-5", include_str!("../boards/raspberry-pi-5.toml")),
    ("rk3588-mali-g610", include_str!("../boards/rk3588-mali-g610.toml")),
    ("snapdragon-adreno-740", include_str!("../boards/snapdragon-adreno-740.toml")),
];

static CHOSEN: Mutex<Option<Board>> = Mutex::new(None);

/// From now on everything in this process keeps within what `board` has.
pub fn choose(board: Board) {
    *CHOSEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(board);
}

/// The board that was [chosen](choose).
pub fn chosen() -> Option<Board> {
    CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Board {
    /// Names of the boards that every program has.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// A board of [`Board::names`], or one in a TOML file.
    ///
    /// # Errors
    /// `NotFound` that lists the names, `Io`, and those of [`Board::parse`].
    pub fn open(name: &str) -> Result<Board> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Board::parse(text, Path::new(name));
        }
        let file = Path::new(name);
        match std::fs::read_to_string(file) {
            Ok(text) => Board::parse(&text, file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Error::io("read", file, error)
                .advise(format!("name a file, or one of {}", Board::names().collect::<Vec<_>>().join(", ")))),
            Err(error) => Err(Error::io("read", file, error)),
        }
    }
}
