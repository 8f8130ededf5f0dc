//! The library's error: what went wrong, where (file, node, field) and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// What a function of this library returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`], for a caller who must branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or directory that must be there is not.
    NotFound,
    /// The operating system refused to read or write.
    Io,
    /// A file is there, but its content is broken.
    Malformed,
    /// The content is sound, but this version cannot run it.
    Unsupported,
    /// Two things do not fit each other: an input and its graph, a graph and its stage, a tokenizer and its encoder.
    Mismatch,
    /// A value that the caller chose is outside of what is allowed.
    Invalid,
    /// The engine failed while it prepared or ran a graph.
    Engine,
    /// There is not, or must not be used, so much memory.
    Memory,
    /// A result holds NaN or infinity.
    NotFinite,
    /// The caller stopped the run.
    Cancelled,
}

/// An error of this library.
///
/// It displays as `FILE: node "NODE": field "FIELD": what is wrong; what to do`, leaving out the parts it does not have.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    advice: Option<String>,
    file: Option<PathBuf>,
    node: Option<String>,
    field: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `message` says what is wrong, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        let message = message.into();
        Error(Box::new(Inner { kind, message, advice: None, file: None, node: None, field: None, source: None }))
    }

    /// A failed file operation: `NotFound` or `Io`, naming the file. `doing` is a verb: "read", "create".
    pub fn io(doing: &str, file: &Path, error: std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::NotFound {
            return Error::new(ErrorKind::NotFound, "no such file or directory").in_file(file);
        }
        Error::new(ErrorKind::Io, format!("cannot {doing}: {error}")).in_file(file).caused_by(error)
    }

    /// Says what to do about it.
    pub fn advise(mut self, advice: impl Into<String>) -> Error {
        self.0.advice = Some(advice.into());
        self
    }

    /// Names the file, unless one is named already: the innermost knows best.
    pub fn in_file(mut self, file: impl AsRef<Path>) -> Error {
        self.0.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }

    /// Names the graph node, unless one is named already.
    pub fn in_node(mut self, node: impl Into<String>) -> Error {
        self.0.node.get_or_insert_with(|| node.into());
        self
    }

    /// Names the field (of a config) or the input (of a graph), unless one is named already.
    pub fn in_field(mut self, field: impl Into<String>) -> Error {
        self.0.field.get_or_insert_with(|| field.into());
        self
    }

    /// Keeps the error underneath as [`std::error::Error::source`].
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.0.source = Some(Box::new(source));
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file at fault, where one is.
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The graph node at fault, where one is.
    pub fn node(&self) -> Option<&str> {
        self.0.node.as_deref()
    }

    /// The config field or graph input at fault, where one is.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, advice, file, node, field, .. } = &*self.0;
        if let Some(file) = file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(node) = node {
            write!(f, "node \"{node}\": ")?;
        }
        if let Some(field) = field {
            write!(f, "`{field}`: ")?;
        }
        f.write_str(message)?;
        advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// `Err(Error::new(kind, format!(...)))`, for the many checks that end in one.
macro_rules! fail {
    ($kind:ident, $($message:tt)+) => {
        Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)+)))
    };
}
pub(crate) use fail;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_file_node_and_field_and_says_what_to_do() {
        let error =
            Error::new(ErrorKind::Mismatch, "is 3, not 4").in_field("channels").in_node("conv").in_file("m.onnx");
        assert_eq!(
            error.advise("export it again").to_string(),
            "m.onnx: node \"conv\": `channels`: is 3, not 4; export it again"
        );
    }

    #[test]
    fn the_innermost_file_is_kept() {
        let error = Error::new(ErrorKind::Io, "full").in_file("inner").in_file("outer");
        assert_eq!(error.file(), Some(Path::new("inner")));
    }
}
