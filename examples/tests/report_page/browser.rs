//! Headless Chromium, where it is installed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use tenfold_rig::Report;

const CHROMIUM: &str = "/usr/bin/chromium";
/// Steps of a tenth of a second that a page may take.
const MAX_STEPS: u32 = 600;

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A browser that is there.
pub(crate) struct Browser;

/// How the page is looked at.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

/// A folder that is removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Browser {
    /// The browser, or a printed skip; a failure where the environment requires every engine.
    pub(crate) fn find() -> Option<Self> {
        if Path::new(CHROMIUM).exists() {
            return Some(Self);
        }
        let required = std::env::var_os("REQUIRE_ENGINES").is_some_and(|value| value == "1");
        assert!(!required, "REQUIRE_ENGINES=1, and there is no {CHROMIUM}");
        println!("skipped 1: no {CHROMIUM}");
        None
    }

    /// Writes all files of a report.
    pub(crate) fn write(&self, report: &Report) -> Folder {
        let folder = Folder::new();
        let files = report.write(&folder.0).unwrap();
        assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() > 100));
        folder
    }

    /// The page as pixels.
    pub(crate) fn screenshot(&self, folder: &Folder, look: Look) -> Screenshot {
        let file = folder.0.join("page.png");
        let mut options = vec![
            format!("--screenshot={}", file.display()),
            format!("--window-size={},{}", look.width, look.height),
            "--hide-scrollbars".to_owned(),
        ];
        // 0 is dark and 1 is light.
        options.push(format!("--blink-settings=preferredColorScheme={}", u8::from(!look.dark)));
        self.run(folder, &options);
        Screenshot::read(&file)
    }

    /// The page's document after it was loaded.
    pub(crate) fn document(&self, folder: &Folder) -> String {
        self.run(folder, &["--dump-dom".to_owned()])
    }

    /// Runs the browser to its end and returns what it printed.
    fn run(&self, folder: &Folder, options: &[String]) -> String {
        let profile = Folder::new();
        let mut child = Command::new(CHROMIUM)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--disable-dev-shm-usage")
            .arg(format!("--user-data-dir={}", profile.0.display()))
            .args(options)
            .arg(format!("file://{}", folder.0.join("report.html").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        for step in 0.. {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "the browser ended with {status}");
                break;
            }
            if step == MAX_STEPS {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the browser did not come to an end");
            }
            thread::sleep(Duration::from_millis(100));
        }
        reader.join().unwrap().unwrap()
    }
}

/// Pixels and how often each colour is among them.
pub(crate) struct Screenshot {
    pub(crate) width: u32,
    pub(crate) height: u32,
    colours: HashMap<[u8; 3], u32>,
}

impl Screenshot {
    fn read(file: &Path) -> Self {
        let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let mut colours = HashMap::new();
        for pixel in pixels[..info.buffer_size()].chunks_exact(info.color_type.samples()) {
            *colours.entry([pixel[0], pixel[1], pixel[2]]).or_insert(0) += 1;
        }
        Self { width: info.width, height: info.height, colours }
    }

    /// How many different colours there are.
    pub(crate) fn colours(&self) -> usize {
        self.colours.len()
    }

    /// How many pixels have this colour.
    pub(crate) fn count(&self, colour: [u8; 3]) -> u32 {
        self.colours.get(&colour).copied().unwrap_or(0)
    }
}
