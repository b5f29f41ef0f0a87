//! The workspace as the rules see it: packages from `cargo metadata`, and the text of every file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// The folder of the virtual manifest.
pub(crate) struct Workspace {
    root: PathBuf,
}

/// A member, in the words of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) description: Option<String>,
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) readme: Option<String>,
    pub(crate) rust_version: Option<String>,
    pub(crate) keywords: Vec<String>,
    pub(crate) categories: Vec<String>,
    /// The registries it may go to; `None` is any, an empty list none.
    pub(crate) publish: Option<Vec<String>>,
    pub(crate) metadata: serde_json::Value,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// An edge of the manifest, of any kind.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    pub(crate) optional: bool,
}

/// A library, binary, example, test or bench.
#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

/// A text file; the path is relative to the root and has forward slashes.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Workspace {
    /// The workspace that this test belongs to.
    pub(crate) fn here() -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: package.parent().expect("the package lies in a folder of the workspace").to_owned() }
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.root.join(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
    }

    /// What a cargo command prints.
    pub(crate) fn cargo(&self, arguments: &[&str]) -> String {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo).args(arguments).current_dir(&self.root).output().expect("cargo can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {} failed:\n{errors}", arguments.join(" "));
        String::from_utf8(output.stdout).expect("cargo prints UTF-8")
    }

    pub(crate) fn packages(&self) -> Vec<Package> {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Package>,
        }
        let json = self.cargo(&["metadata", "--format-version", "1", "--offline", "--no-deps"]);
        serde_json::from_str::<Metadata>(&json).expect("metadata has the documented form").packages
    }

    /// Every file but git's and cargo's own, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = vec![];
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of the workspace can be read") {
                let entry = entry.expect("an entry of a folder can be read");
                let kind = entry.file_type().expect("an entry has a type");
                if kind.is_dir() && entry.file_name() != "target" && entry.file_name() != ".git" {
                    folders.push(entry.path());
                } else if kind.is_file() && entry.file_name() != ".git" {
                    let path = entry.path();
                    let path = path.strip_prefix(&self.root).expect("it was found under the root");
                    files.push(path.to_string_lossy().replace('\\', "/"));
                }
            }
        }
        files.sort();
        files
    }

    /// The files that are text.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let read = |path: String| {
            let bytes = std::fs::read(self.root.join(&path)).ok()?;
            Some(Source { path, text: String::from_utf8(bytes).ok()? })
        };
        self.files().into_iter().filter_map(read).collect()
    }
}

impl Package {
    /// Whether it goes to a registry. The public crates are the components; the others are ours alone.
    pub(crate) fn is_public(&self) -> bool {
        self.publish.as_ref().is_none_or(|registries| !registries.is_empty())
    }

    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().expect("a manifest lies in a folder")
    }

    pub(crate) fn manifest(&self) -> String {
        std::fs::read_to_string(&self.manifest_path).expect("a member's manifest can be read")
    }
}

impl Target {
    pub(crate) fn is_example(&self) -> bool {
        self.kind.iter().any(|kind| kind == "example")
    }
}

impl Source {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root is found, and what is in it: rules over an empty list would all hold.
#[test]
fn sees_packages_and_files() {
    let here = Workspace::here();
    let packages = here.packages();
    assert!(packages.iter().any(|package| package.name == "tenfold-cache-core" && package.is_public()));
    assert!(packages.iter().any(|package| package.name == "tenfold-rig" && !package.is_public()));
    let sources = here.sources();
    for path in ["Cargo.toml", "scripts/test", "lru-cache/src/lib.rs", "examples/tests/house_rules.rs"] {
        assert!(sources.iter().any(|source| source.path == path), "{path} is not among {} files", sources.len());
    }
    assert!(sources.iter().all(|source| !source.path.contains(".git/")));
}
