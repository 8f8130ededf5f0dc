//! Turns a panic inside a dependency into an error, without its report on stderr.

use crate::error::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// Runs `work`; a panic in it becomes an `Engine` error that says what was being done and with which message it ended.
///
/// What `work` captured by reference must not be used after a panic: callers drop it.
pub(crate) fn catch<T>(who: &str, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    install_hook();
    let before = QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(before);
    outcome.unwrap_or_else(|payload| {
        let message = format!("{who} panicked while {doing}: {}", text(payload.as_ref()));
        Err(Error::new(ErrorKind::Engine, message).advise("the graph holds something that was not expected"))
    })
}

/// Panics of the calling thread leave no report from now on: for worker threads, whose panics reach [`catch`] through their pool.
pub(crate) fn hush_thread() {
    install_hook();
    QUIET.set(true);
}

fn install_hook() {
    HOOK.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
    clip(&message.unwrap_or_else(|| "no message".into()))
}

/// The first 400 characters of a foreign message, on one line.
pub(crate) fn clip(message: &str) -> String {
    const LONGEST: usize = 400;
    let mut line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push_str(" …");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let error = catch::<()>("tract", "testing", || panic!("number {}", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Engine);
        assert!(error.to_string().starts_with("tract panicked while testing: number 7"));
    }

    #[test]
    fn a_long_message_is_clipped() {
        assert_eq!(clip("a\n  b"), "a b");
        assert!(clip(&"é".repeat(1000)).chars().count() < 410);
    }
}
