//! Logs that a disk has damaged: a node refuses to open, or has all that it had.

use std::path::{Path, PathBuf};

use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteDriver};
use tenfold_replication::{Mode, Node, Rng};

use super::fixture::Files;
use super::suite::Fixture;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target)) }
    }
}

fn log_of(dir: &Path) -> PathBuf {
    std::fs::read_dir(dir.join("log")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap()
}

/// Of a primary and of a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_refused_or_harmless() {
    let seed = 11;
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let files = Files::start(2, Mode::Asynchronous).await;
    let mut writer = files.connect(0, tenfold_replication::driver::Access::Write).await;
    for number in 0..3 {
        Files::append(&mut writer, 1, number).await.unwrap();
    }
    files.caught_up().await;
    drop(writer);
    let good = files.driver().content_hash(&files.nodes[0]).await.unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for round in 0..60 {
        let node = &files.nodes[round % 2];
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("n");
        copy(node.address().as_ref(), &dir);
        let path = log_of(&dir);
        let mut bytes = std::fs::read(&path).unwrap();
        if round % 3 == 0 {
            bytes.truncate(rng.below(bytes.len() as u64) as usize);
        } else {
            let bit = rng.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(&path, bytes).unwrap();
        let node = Node::new(node.id(), dir.to_str().unwrap());
        match SqliteDriver::new(SqliteConfig::default()).content_hash(&node).await {
            Ok(found) => {
                assert_eq!(found, good);
                harmless += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert_eq!(refused, 60, "all of the log had been committed");
}
