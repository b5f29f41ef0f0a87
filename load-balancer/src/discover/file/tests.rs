use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::*;
use crate::discover::testing::backends;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tenfold-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("backends")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// Writes beside and renames.
    fn replace(&self, text: &str) {
        fs::write(self.0.join("new"), text).unwrap();
        fs::rename(self.0.join("new"), self.path()).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const ONE: &str = "10.0.0.1:80\n";
const TWO: &str = "10.0.0.2:80\n";

/// Looks until there is something to say, or nothing changes.
fn settle(source: &mut FileSource) -> Result<Option<Change>, DiscoverError> {
    loop {
        match source.check() {
            Ok(None) if source.wait() == source.config.settle => {}
            result => return result,
        }
    }
}

fn expect(source: &mut FileSource, hosts: &[u8]) {
    assert_eq!(settle(source).unwrap(), Some(Change::Replace(backends(hosts))));
    assert_eq!(settle(source).unwrap(), None);
}

#[test]
fn notices_writes_in_place_and_renames() {
    let folder = Folder::new();
    folder.write(ONE);
    let mut source = FileSource::new(folder.path());
    expect(&mut source, &[1]);
    // The same length, and soon enough for coarse time stamps to be the same.
    folder.write(TWO);
    expect(&mut source, &[2]);
    folder.replace("10.0.0.1:80\n10.0.0.2:80");
    expect(&mut source, &[1, 2]);
    folder.replace("10.0.0.1:80\n10.0.0.2:80");
    assert_eq!(settle(&mut source).unwrap(), None, "a new file of the same content is no change");
}

/// Two writes within one tick of the file system's clock, of the same length.
#[test]
fn contents_of_the_same_stamp_are_told_apart() {
    let folder = Folder::new();
    folder.write(ONE);
    let mut source = FileSource::new(folder.path());
    let stamp = Stamp::of(&fs::metadata(folder.path()).unwrap());
    for (text, host) in [(ONE, 1), (TWO, 2), (ONE, 1)] {
        assert_eq!(source.compare(stamp, text.as_bytes()).unwrap(), None);
        assert_eq!(source.compare(stamp, text.as_bytes()).unwrap(), Some(Change::Replace(backends(&[host]))));
    }
}

#[test]
fn a_stamp_is_trusted_only_once_it_is_older_than_its_clock_is_coarse() {
    let folder = Folder::new();
    folder.write(ONE);
    let mut source = FileSource::new(folder.path());
    let looks = source.looks_to_trust();
    assert!(source.config.interval * (looks - 2) > COARSEST_CLOCK);
    for _ in 0..looks {
        assert!(matches!(source.look().take().unwrap(), View::Content { .. }));
        source.check().unwrap();
    }
    assert!(matches!(source.look().take().unwrap(), View::Unchanged));
    folder.write(TWO);
    expect(&mut source, &[2]);
}

#[test]
fn a_half_written_file_is_not_reported() {
    let folder = Folder::new();
    folder.write(ONE);
    let mut source = FileSource::new(folder.path());
    expect(&mut source, &[1]);
    for part in ["", "10.0.0.2:80\n", "10.0.0.2:80\n10.0.0.3:80 wei", "10.0.0.2:80\n10.0.0.3:80 weight=1"] {
        folder.write(part);
        assert_eq!(source.check().unwrap(), None, "{part:?}");
        assert_eq!(source.wait(), source.config.settle);
    }
    assert_eq!(source.check().unwrap(), Some(Change::Replace(backends(&[2, 3]))));
}

#[test]
fn a_file_that_never_rests_is_looked_at_in_the_usual_rhythm() {
    let folder = Folder::new();
    let mut source = FileSource::new(folder.path());
    for round in 0..MAX_QUICK_LOOKS + 2 {
        folder.write(&"#".repeat(round as usize));
        assert_eq!(source.check().unwrap(), None);
    }
    assert_eq!(source.wait(), source.config.interval);
}

#[test]
fn faults_are_reported_once_and_end_with_a_good_file() {
    let folder = Folder::new();
    let mut source = FileSource::new(folder.path());
    assert!(settle(&mut source).unwrap_err().is_not_found());
    assert_eq!(settle(&mut source).unwrap(), None);
    folder.write(ONE);
    expect(&mut source, &[1]);

    folder.write("10.0.0.1:80\n10.0.0.2:80 weight=0\n");
    let error = settle(&mut source).unwrap_err();
    assert!(error.is_invalid());
    assert_eq!(error.line(), NonZeroU32::new(2));
    assert_eq!(settle(&mut source).unwrap(), None);
    folder.write(ONE);
    expect(&mut source, &[1]);

    fs::remove_file(folder.path()).unwrap();
    assert!(settle(&mut source).unwrap_err().is_not_found());
    fs::create_dir(folder.path()).unwrap();
    assert!(settle(&mut source).unwrap_err().is_unavailable());
    fs::remove_dir(folder.path()).unwrap();
    assert!(settle(&mut source).unwrap_err().is_not_found());
    folder.write(ONE);
    expect(&mut source, &[1]);
}

#[test]
fn bytes_that_are_no_text_and_too_many_of_them_are_invalid() {
    let folder = Folder::new();
    fs::write(folder.path(), b"10.0.0.1:80\n# caf\xe9\n").unwrap();
    let mut source = FileSource::new(folder.path());
    let error = settle(&mut source).unwrap_err();
    assert_eq!((error.is_invalid(), error.line()), (true, NonZeroU32::new(2)));
    let mut source = source.config(FileConfig { max_bytes: 12, ..FileConfig::default() });
    folder.write(ONE);
    expect(&mut source, &[1]);
    folder.write("10.0.0.1:80\n#");
    let error = settle(&mut source).unwrap_err();
    assert_eq!((error.is_invalid(), error.line()), (true, None));
}

#[test]
fn the_host_may_bring_its_own_form() {
    let folder = Folder::new();
    folder.write("1,2");
    let parse = |text: &str| {
        let hosts: Result<Vec<_>, _> = text.split(',').map(str::parse).collect();
        hosts.map(|hosts| backends(&hosts)).map_err(DiscoverError::invalid)
    };
    let mut source = FileSource::new(folder.path()).parser(parse);
    expect(&mut source, &[1, 2]);
    folder.write("1,x");
    assert!(settle(&mut source).unwrap_err().is_invalid());
}

/// As Kubernetes mounts a ConfigMap: the file is a link into a folder that is a link, and that one is turned.
#[cfg(unix)]
#[test]
fn follows_links_that_are_turned() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    for (version, text) in [("v1", ONE), ("v2", TWO)] {
        fs::create_dir(folder.0.join(version)).unwrap();
        fs::write(folder.0.join(version).join("backends"), text).unwrap();
    }
    symlink("v1", folder.0.join("..data")).unwrap();
    symlink("..data/backends", folder.path()).unwrap();
    let mut source = FileSource::new(folder.path());
    expect(&mut source, &[1]);
    symlink("v2", folder.0.join("..new")).unwrap();
    fs::rename(folder.0.join("..new"), folder.0.join("..data")).unwrap();
    expect(&mut source, &[2]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_being_opened() {
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo").arg(folder.path()).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    assert!(settle(&mut FileSource::new(folder.path())).unwrap_err().is_unavailable());
}

#[cfg(feature = "tokio")]
#[tokio::test(start_paused = true)]
async fn as_a_source_it_looks_by_itself() {
    use crate::Discover;
    let folder = Folder::new();
    folder.write(ONE);
    let mut source = FileSource::new(folder.path());
    assert_eq!(source.next_change().await.unwrap().unwrap(), Change::Replace(backends(&[1])));
    folder.replace(TWO);
    assert_eq!(source.next_change().await.unwrap().unwrap(), Change::Replace(backends(&[2])));
    fs::remove_file(folder.path()).unwrap();
    assert!(source.next_change().await.unwrap().unwrap_err().is_not_found());
    folder.write(TWO);
    assert_eq!(source.next_change().await.unwrap().unwrap(), Change::Replace(backends(&[2])));
}
