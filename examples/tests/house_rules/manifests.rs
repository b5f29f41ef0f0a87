//! Rules about manifests: who depends on whom and how much, and what a public crate must have.

use std::collections::BTreeSet;

use super::workspace::Package;

/// The engine, and the only components that may depend on another component: on it.
const ENGINE: &str = "tenfold-cache-core";
const ENGINE_USERS: [&str; 2] = ["tenfold-lru-cache", "tenfold-lfu-cache"];

/// The packages where components meet; every other member must not know a second one.
const MEETING_PLACES: [&str; 2] = ["tenfold-examples", "tenfold-benches"];

/// Direct required dependencies of the engine and its caches, and of every other component.
const CACHE_BUDGET: usize = 4;
const BUDGET: usize = 6;

/// Edges from a component, or from the rig, to another member, tests and build scripts included.
pub(crate) fn depends_on_members(package: &Package, members: &[Package]) -> Vec<String> {
    if MEETING_PLACES.contains(&package.name.as_str()) {
        return vec![];
    }
    let name = package.name.as_str();
    let allowed = |to: &str| to == name || (to == ENGINE && ENGINE_USERS.contains(&name));
    let is_member = |to: &str| members.iter().any(|member| member.name == to);
    let edges = package.dependencies.iter().filter(|edge| is_member(&edge.name) && !allowed(&edge.name));
    edges
        .map(|edge| format!("{name} depends on {} ({})", edge.name, edge.kind.as_deref().unwrap_or("normal")))
        .collect()
}

fn direct(package: &Package, optional: bool) -> BTreeSet<&str> {
    let ordinary = package.dependencies.iter().filter(|edge| edge.kind.is_none() && edge.optional == optional);
    ordinary.map(|edge| edge.name.as_str()).collect()
}

fn budget(package: &Package) -> usize {
    let name = package.name.as_str();
    if name == ENGINE || ENGINE_USERS.contains(&name) { CACHE_BUDGET } else { BUDGET }
}

/// Required dependencies beyond the budget of a component.
pub(crate) fn exceeds_budget(package: &Package) -> Vec<String> {
    if package.is_public() {
        let subject = format!("{}: required dependencies ({})", package.name, dependency_summary(package));
        too_many(&subject, direct(package, false).len(), budget(package))
    } else {
        vec![]
    }
}

/// The direct dependencies of a package, optional ones apart.
pub(crate) fn dependency_summary(package: &Package) -> String {
    let list = |optional| direct(package, optional).into_iter().collect::<Vec<_>>().join(", ");
    format!("required: {}; optional: {}", list(false), list(true))
}

/// What a public crate lacks: files beside its manifest, metadata, the shared lints.
pub(crate) fn incomplete(package: &Package, manifest: &str, root: &str, has: impl Fn(&str) -> bool) -> Vec<String> {
    if !package.is_public() {
        return vec![];
    }
    let mut lacks = vec![];
    for file in ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        if !has(file) {
            lacks.push(file.to_owned());
        }
    }
    let is_filled = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.trim().is_empty());
    let fields = [
        ("description", is_filled(&package.description)),
        ("license", is_filled(&package.license)),
        ("repository", is_filled(&package.repository)),
        ("readme", package.readme.as_deref() == Some("README.md")),
        ("rust-version", is_filled(&package.rust_version)),
        ("five keywords", package.keywords.len() == 5),
        ("categories", !package.categories.is_empty()),
        ("all-features for docs.rs", package.metadata.pointer("/docs/rs/all-features") == Some(&true.into())),
        ("the lint missing_docs", is_linted(manifest, root)),
    ];
    lacks.extend(fields.iter().filter(|(_, there)| !there).map(|(field, _)| (*field).to_owned()));
    lacks.iter().map(|what| format!("{} lacks {what}", package.name)).collect()
}

/// Whether the manifest takes the workspace's lints, and these ask for documentation.
fn is_linted(manifest: &str, root: &str) -> bool {
    let inherits = section(manifest, "[lints]").any(|line| line == "workspace = true");
    inherits && section(root, "[workspace.lints.rust]").any(|line| line.starts_with("missing_docs = "))
}

/// The lines of a manifest between a heading and the next one.
fn section<'a>(manifest: &'a str, heading: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = manifest.lines().map(str::trim).skip_while(move |line| *line != heading);
    lines.skip(1).take_while(|line| !line.starts_with('['))
}

/// A package `tenfold-x` that does not lie in a folder `x`.
pub(crate) fn misnamed(package: &Package) -> Vec<String> {
    let folder = package.folder().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_right = package.name.strip_prefix("tenfold-") == Some(&folder);
    if is_right { vec![] } else { vec![format!("{} lies in the folder `{folder}`", package.name)] }
}

/// The packages of what `cargo tree --prefix none` printed, repetitions left out.
pub(crate) fn distinct_packages(tree: &str) -> usize {
    let name_and_version = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    tree.lines().filter(|line| !line.trim().is_empty()).map(name_and_version).collect::<BTreeSet<_>>().len()
}

/// A count above its limit.
pub(crate) fn too_many(subject: &str, count: usize, limit: usize) -> Vec<String> {
    if count > limit { vec![format!("{subject}: {count}, at most {limit}")] } else { vec![] }
}

mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A public crate that keeps every rule, with some fields replaced.
    fn package(name: &str, changes: Value) -> Package {
        let mut package = json!({
            "name": name,
            "manifest_path": format!("/somewhere/{}/Cargo.toml", name.trim_start_matches("tenfold-")),
            "description": "a crate", "license": "MIT", "repository": "https://example.com", "readme": "README.md",
            "rust_version": "1.85", "keywords": ["a", "b", "c", "d", "e"], "categories": ["caching"],
            "publish": null, "metadata": { "docs": { "rs": { "all-features": true } } },
            "dependencies": [], "targets": [],
        });
        let fields = package.as_object_mut().expect("it was made as an object");
        fields.extend(changes.as_object().expect("changes are given as an object").clone());
        serde_json::from_value(package).expect("it has all the fields")
    }

    fn edges(names: &[&str], kind: Value, optional: bool) -> Value {
        let edges = names.iter().map(|name| json!({ "name": name, "kind": kind, "optional": optional }));
        json!({ "dependencies": edges.collect::<Vec<_>>() })
    }

    #[test]
    fn an_edge_between_components_is_an_offence_of_any_kind() {
        for kind in [json!(null), json!("dev"), json!("build")] {
            for (from, to, is_bad) in [
                ("tenfold-lru-cache", "tenfold-lfu-cache", true),
                ("tenfold-lru-cache", "tenfold-cache-core", false),
                ("tenfold-cache-core", "tenfold-cache-core", false),
                ("tenfold-cache-core", "tenfold-lru-cache", true),
                ("tenfold-mq", "tenfold-cache-core", true),
                ("tenfold-mq", "tenfold-rig", true),
                ("tenfold-rig", "tenfold-lru-cache", true),
                ("tenfold-rig", "serde", false),
                ("tenfold-examples", "tenfold-lru-cache", false),
                ("tenfold-benches", "tenfold-lfu-cache", false),
            ] {
                let members = [from, to].map(|name| package(name, json!({})));
                let members = if to == "serde" { &members[..1] } else { &members[..] };
                let offences = depends_on_members(&package(from, edges(&[to], kind.clone(), false)), members);
                assert_eq!(!offences.is_empty(), is_bad, "{from} -> {to} ({kind}): {offences:?}");
            }
        }
    }

    #[test]
    fn the_budget_counts_required_dependencies_once() {
        let seven = ["a", "b", "c", "d", "e", "f", "g"];
        let verdict = |name, edges| exceeds_budget(&package(name, edges)).len();
        assert_eq!(verdict("tenfold-mq", edges(&seven, json!(null), false)), 1);
        assert_eq!(verdict("tenfold-mq", edges(&seven[..6], json!(null), false)), 0);
        assert_eq!(verdict("tenfold-lru-cache", edges(&seven[..5], json!(null), false)), 1);
        assert_eq!(verdict("tenfold-lru-cache", edges(&seven[..4], json!(null), false)), 0);
        assert_eq!(verdict("tenfold-mq", edges(&seven, json!(null), true)), 0, "optional ones do not count");
        assert_eq!(verdict("tenfold-mq", edges(&seven, json!("dev"), false)), 0, "nor do those of tests");
        assert_eq!(verdict("tenfold-mq", edges(&["a"; 9], json!(null), false)), 0, "one name is one dependency");
        assert!(dependency_summary(&package("tenfold-mq", edges(&["a"], json!(null), true))).ends_with("optional: a"));
    }

    const LINTED: &str = "[package]\n[lints]\nworkspace = true\n";
    const LINTS: &str = "[workspace.lints.rust]\nmissing_docs = \"warn\"\n[profile.release]\n";

    #[test]
    fn each_missing_piece_of_a_public_crate_is_named() {
        let lacks = |changes| incomplete(&package("tenfold-mq", changes), LINTED, LINTS, |_| true).join("; ");
        assert_eq!(lacks(json!({})), "");
        for (field, value, word) in [
            ("description", json!(" "), "description"),
            ("license", json!(null), "license"),
            ("repository", json!(null), "repository"),
            ("readme", json!(null), "readme"),
            ("rust_version", json!(null), "rust-version"),
            ("keywords", json!(["a"]), "keywords"),
            ("categories", json!([]), "categories"),
            ("metadata", json!(null), "docs.rs"),
        ] {
            let lacks = lacks(json!({ field: value }));
            assert!(lacks.contains(word) && !lacks.contains(';'), "{field}: {lacks}");
        }
        let package = package("tenfold-mq", json!({}));
        let no_files = incomplete(&package, LINTED, LINTS, |_| false);
        assert_eq!(no_files.len(), 4, "{no_files:?}");
        for (manifest, root) in [("[lints]\n[features]\nworkspace = true", LINTS), (LINTED, "[workspace.lints.rust]\n")]
        {
            assert!(incomplete(&package, manifest, root, |_| true)[0].contains("missing_docs"));
        }
    }

    #[test]
    fn unpublished_packages_need_nothing() {
        let mine = package("tenfold-rig", json!({ "publish": [], "description": null }));
        assert!(incomplete(&mine, "", "", |_| false).is_empty());
        assert!(!incomplete(&package("tenfold-rig", json!({ "description": null })), "", "", |_| false).is_empty());
    }

    #[test]
    fn a_folder_of_another_name_is_an_offence() {
        assert!(misnamed(&package("tenfold-mq", json!({}))).is_empty());
        assert!(
            !misnamed(&package("tenfold-mq", json!({ "manifest_path": "/somewhere/queue/Cargo.toml" }))).is_empty()
        );
        assert!(!misnamed(&package("mq", json!({}))).is_empty());
    }

    #[test]
    fn counts_packages_of_a_tree_once() {
        let tree = "root v0.0.0 (/somewhere)\na v1.0.0\nb v1.0.0\na v1.0.0 (*)\na v2.0.0\n\n";
        assert_eq!(distinct_packages(tree), 4);
        assert!(too_many("tree", 4, 4).is_empty() && !too_many("tree", 5, 4).is_empty());
    }
}
