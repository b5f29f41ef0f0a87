//! A task that panics takes its client with it and nobody else, so somebody has to say so. By itself, for its test.

/// Runs a task, and tells if it panics; what it says then is printed by the hook of all panics.
///
/// # Cancel safety
/// Dropping it drops the task, and tells nobody.
pub(crate) async fn witnessed(task: impl Future<Output = ()>, panicked: impl Fn()) {
    let _witness = Witness(panicked);
    task.await;
}

/// Panics for the path that this variable names: so the tests of the whole proxy see what a panic does to it. Builds without
/// debug assertions have no such place.
#[cfg(debug_assertions)]
pub(crate) fn panic_if_asked(path: &str) {
    let asked = std::env::var_os("TENFOLD_PROXY_PANIC");
    assert!(asked.is_none_or(|asked| asked != path), "as {path} was to");
}

struct Witness<F: Fn()>(F);

impl<F: Fn()> Drop for Witness<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.0)();
        }
    }
}
