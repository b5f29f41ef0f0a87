//! The plain lines that a running climb prints: for a person who watches and for a file that is read later.
//!
//! The same lines go to a terminal and to a pipe, at most one progress line a second, and never a control sequence.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::progress::Progress;

/// Least time between two progress lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Prints lines; clones print to the same place.
///
/// Once a line cannot be written, as when the reader of a pipe has gone, the rest is dropped: what is measured matters
/// more than who watches.
#[derive(Clone)]
pub struct Story {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    out: Box<dyn Write + Send>,
    last_tick: Option<Duration>,
    is_closed: bool,
}

impl Story {
    /// Prints to `out`, line by line.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        let inner = Inner { out: Box::new(out), last_tick: None, is_closed: false };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Prints to standard output.
    pub fn stdout() -> Self {
        Self::new(io::stdout())
    }

    /// Prints a line, or several if the text has several.
    pub fn say(&self, text: &str) {
        self.lock().print(text);
    }

    /// Prints `line` unless the last tick was less than a second before `elapsed`, and says whether it did.
    ///
    /// `elapsed` is the time since the run began; a time before the last tick counts as a new run.
    pub fn tick(&self, elapsed: Duration, line: &str) -> bool {
        let mut inner = self.lock();
        let is_due = inner.last_tick.is_none_or(|last| elapsed < last || elapsed - last >= INTERVAL);
        if is_due {
            inner.last_tick = Some(elapsed);
            inner.print(&format!("{:>6.1} s  {line}", elapsed.as_secs_f64()));
        }
        is_due
    }

    /// The same place as a sink of lines for the parts of the rig.
    pub fn progress(&self) -> Progress {
        let story = self.clone();
        Progress::new(move |line| story.say(line))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn print(&mut self, text: &str) {
        if self.is_closed {
            return;
        }
        let written = text.lines().try_for_each(|line| writeln!(self.out, "{}", line.trim_end()));
        self.is_closed = written.and_then(|()| self.out.flush()).is_err();
    }
}

impl fmt::Debug for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Story").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer that the test can read, and that fails when told to.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<(Vec<u8>, bool)>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut page = self.0.lock().unwrap();
            if page.1 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            page.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn ticks_are_a_second_apart() {
        let page = Page::default();
        let story = Story::new(page.clone());
        let printed: Vec<bool> =
            [0, 400, 999, 1000, 1500, 2100, 50].map(|ms| story.tick(Duration::from_millis(ms), "x")).into();
        assert_eq!(printed, [true, false, false, true, false, true, true]);
        assert_eq!(page.text(), "   0.0 s  x\n   1.0 s  x\n   2.1 s  x\n   0.1 s  x\n");
    }

    #[test]
    fn a_lost_reader_stops_nothing() {
        let page = Page::default();
        let story = Story::new(page.clone());
        story.say("one\ntwo");
        page.0.lock().unwrap().1 = true;
        story.progress().line("three");
        page.0.lock().unwrap().1 = false;
        story.say("four");
        assert_eq!(page.text(), "one\ntwo\n");
    }
}
