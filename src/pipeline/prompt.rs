//! The only door for text that a user wrote.

use std::ffi::OsStr;

use super::request::invalid;
use crate::error::Result;

/// Far more than any text encoder reads, and little enough to tokenize in a moment.
const LONGEST_BYTES: usize = 64 * 1024;

/// A prompt that says something: UTF-8, not only white space, no NUL, at most 64 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt(String);

impl Prompt {
    /// # Errors
    /// `Invalid`: empty, white space only, a NUL inside, or longer than 64 KiB.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        let prompt = Self::negative(text)?;
        if prompt.0.trim().is_empty() {
            return Err(invalid("the prompt is empty").advise("say what the picture should show"));
        }
        Ok(prompt)
    }

    /// What the picture should not show; may be empty.
    ///
    /// # Errors
    /// As [`new`](Self::new), but for the empty text.
    pub fn negative(text: impl Into<String>) -> Result<Self> {
        let text = text.into();
        if text.len() > LONGEST_BYTES {
            return Err(invalid(format!("the prompt has {} bytes, more than {LONGEST_BYTES}", text.len())));
        }
        if text.contains('\0') {
            return Err(invalid("the prompt contains a NUL character"));
        }
        Ok(Self(text))
    }

    /// Text as the operating system hands it over.
    ///
    /// # Errors
    /// `Invalid` when it is not UTF-8; the message shows what could be read of it.
    pub fn decode(text: &OsStr) -> Result<&str> {
        text.to_str().ok_or_else(|| invalid(format!("the prompt is not UTF-8: {:?}", text.to_string_lossy())))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_prompts_are_refused_and_empty_negatives_are_not() {
        for text in ["", " ", "\n\t "] {
            assert_eq!(
                Prompt::new(text).unwrap_err().to_string(),
                "the prompt is empty; say what the picture should show"
            );
            assert_eq!(Prompt::negative(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn long_text_and_nul_are_refused() {
        assert_eq!(Prompt::new("a\0b").unwrap_err().to_string(), "the prompt contains a NUL character");
        let long = Prompt::new("a".repeat(LONGEST_BYTES + 1)).unwrap_err().to_string();
        assert_eq!(long, "the prompt has 65537 bytes, more than 65536");
        assert!(Prompt::new("a".repeat(LONGEST_BYTES)).is_ok());
    }

    #[test]
    #[cfg(unix)]
    fn other_encodings_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let error = Prompt::decode(OsStr::from_bytes(b"caf\xe9")).unwrap_err().to_string();
        assert_eq!(error, "the prompt is not UTF-8: \"caf\u{fffd}\"");
    }
}
