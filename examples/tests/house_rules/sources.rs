//! Rules about the text of files.

use super::code::code_only;

/// The modules that may hold unsafe code, each for a reason of its own: the allocator that counts bytes and the lock of the
/// caches' shards have to implement an unsafe trait; the balancer's count frees what it counts.
pub(crate) const UNSAFE_MODULES: &[&str] =
    &["benches/src/counting_alloc.rs", "cache-core/src/lock.rs", "load-balancer/src/counted.rs"];

/// A file of more lines than the limit.
pub(crate) fn too_long(path: &str, text: &str, limit: usize) -> Vec<String> {
    let lines = text.lines().count();
    if lines > limit { vec![format!("{path}: {lines} lines, at most {limit}")] } else { vec![] }
}

/// Reads of the system's clocks outside the modules made for it. Tests under `tests/` may measure.
pub(crate) fn reads_clock(path: &str, text: &str) -> Vec<String> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let is_test = path.split('/').any(|folder| folder == "tests");
    if is_test || file == "clock.rs" || file == "driver.rs" {
        return vec![];
    }
    find(path, text, &["Instant::now", "SystemTime::now"])
}

/// Code that waits to be written, and tests that are switched off. A test may still be left out under Miri.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<String> {
    find(path, text, &["todo!", "unimplemented!", "#[ignore"])
}

/// Unsafe code in a module that is not listed.
pub(crate) fn has_unsafe(path: &str, text: &str) -> Vec<String> {
    if UNSAFE_MODULES.contains(&path) { vec![] } else { find(path, text, &["unsafe"]) }
}

/// A file of measurements that belong to others.
pub(crate) fn is_trace(path: &str) -> Option<String> {
    let is_trace = [".zst", ".d64"].iter().any(|ending| path.ends_with(ending));
    is_trace.then(|| format!("{path}: traces are other people's data and are never committed"))
}

/// Paths of one machine, and hosts of package registries. The lock file has to name its registry.
pub(crate) fn names_machine(path: &str, text: &str) -> Vec<String> {
    // In halves, since this file is searched as well.
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("../sha", "red")];
    let hosts = [
        concat!("crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("deb.debian", ".org"),
    ];
    let mut offences = vec![];
    for (index, line) in text.lines().enumerate() {
        let named = places.iter().filter(|place| is_absolute(line, place));
        let reached = hosts.iter().filter(|host| path != "Cargo.lock" && line.contains(**host));
        offences.extend(named.chain(reached).map(|what| format!("{path}:{}: names {what}", index + 1)));
    }
    offences
}

/// Whether the place stands in the line, and not as the tail of a longer path or word.
fn is_absolute(line: &str, place: &str) -> bool {
    let continues = |before: char| before.is_alphanumeric() || "._-}/".contains(before);
    line.match_indices(place).any(|(at, _)| !line[..at].ends_with(continues))
}

/// Where the code has one of these, as a word of its own.
fn find(path: &str, text: &str, words: &[&str]) -> Vec<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut offences = vec![];
    for (index, line) in code_only(text).lines().enumerate() {
        for word in words {
            let is_word = |(at, _): (usize, &str)| {
                !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
            };
            if line.match_indices(word).any(is_word) {
                offences.push(format!("{path}:{}: {word}", index + 1));
            }
        }
    }
    offences
}

mod tests {
    use super::*;

    #[test]
    fn one_line_too_many_is_too_long() {
        assert!(too_long("a.rs", &"\n".repeat(200), 200).is_empty());
        assert_eq!(too_long("a.rs", &"\n".repeat(201), 200), ["a.rs: 201 lines, at most 200"]);
    }

    #[test]
    fn a_clock_is_found_outside_its_modules() {
        let text = "fn f() {\n    let now = std::time::Instant::now();\n}\n";
        assert_eq!(reads_clock("mq/src/queue.rs", text), ["mq/src/queue.rs:2: Instant::now"]);
        assert_eq!(reads_clock("mq/src/queue.rs", "map_or_else(SystemTime::now, f)").len(), 1);
        for path in ["mq/src/clock.rs", "mq/src/driver.rs", "mq/tests/it/main.rs"] {
            assert!(reads_clock(path, text).is_empty(), "{path}");
        }
        assert!(reads_clock("mq/src/queue.rs", "// not Instant::now()\nManualInstant::now()").is_empty());
        assert!(!reads_clock("mq/src/o_clock.rs", text).is_empty() && !reads_clock("mq/src/tests.rs", text).is_empty());
    }

    #[test]
    fn the_unfinished_is_found_in_code_only() {
        for text in
            ["todo!()", "x => unimplemented!(\"later\"),", "#[test]\n#[ignore]\nfn f() {}", "#[ignore = \"slow\"]"]
        {
            assert_eq!(unfinished("a.rs", text).len(), 1, "{text}");
        }
        for text in ["// todo!()", "\"unimplemented!\"", "#[cfg_attr(miri, ignore)]", "mytodo!()"] {
            assert!(unfinished("a.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn unsafe_code_is_found_outside_its_modules() {
        assert_eq!(has_unsafe("mq/src/log.rs", "fn f() { unsafe { g() } }"), ["mq/src/log.rs:1: unsafe"]);
        assert!(has_unsafe("mq/src/log.rs", "#![forbid(unsafe_code)] // no unsafe").is_empty());
        assert!(has_unsafe(UNSAFE_MODULES[0], "unsafe { g() }").is_empty());
    }

    #[test]
    fn traces_are_known_by_their_names() {
        assert!(is_trace("benches/web07.d64.zst").is_some() && is_trace("a/b.d64").is_some());
        assert!(is_trace("benches/src/trace.rs").is_none());
    }

    #[test]
    fn machines_and_registries_are_found_in_any_text() {
        for bad in [
            concat!("cd /wo", "rk/main"),
            concat!("(see ../sha", "red/traces)"),
            concat!("https://index.crates", ".io/"),
            concat!("`/ro", "ot/.cargo`"),
        ] {
            assert_eq!(names_machine("README.md", bad).len(), 1, "{bad}");
        }
        for good in ["a net/work/unit", "target/home/x", "shared/traces", "network"] {
            assert!(names_machine("README.md", good).is_empty(), "{good}");
        }
        let lock = concat!("source = \"registry+https://github.com/rust-lang/crates", ".io-index\"");
        assert!(names_machine("Cargo.lock", lock).is_empty());
        assert_eq!(names_machine("Cargo.toml", lock).len(), 1);
    }
}
