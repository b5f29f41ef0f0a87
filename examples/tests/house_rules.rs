//! House rules that a program can check.
//!
//! Each test states one rule and lists every place that breaks it. The rules are functions over plain data, so that
//! each of them is also shown something bad, in the module where it stands, to prove that it can fail.

#[path = "house_rules/code.rs"]
mod code;
#[path = "house_rules/manifests.rs"]
mod manifests;
#[path = "house_rules/sources.rs"]
mod sources;
#[path = "house_rules/workspace.rs"]
mod workspace;

use workspace::{Package, Source, Workspace};

/// Packages that the climb may build by default: its first build is part of the first impression.
const MAX_CLIMB_PACKAGES: usize = 200;

/// Fails with every offence on a line of its own.
#[track_caller]
fn assert_none(offences: Vec<String>) {
    assert!(offences.is_empty(), "{} offences:\n  {}\n", offences.len(), offences.join("\n  "));
}

fn each_package(rule: impl Fn(&Package, &[Package]) -> Vec<String>) -> Vec<String> {
    let packages = Workspace::here().packages();
    packages.iter().flat_map(|package| rule(package, &packages)).collect()
}

fn each_source(rule: impl Fn(&Source) -> Vec<String>) -> Vec<String> {
    Workspace::here().sources().iter().filter(|source| source.is_rust()).flat_map(rule).collect()
}

#[test]
fn components_depend_on_no_other_member() {
    assert_none(each_package(manifests::depends_on_members));
}

#[test]
fn components_keep_their_budget_of_dependencies() {
    let packages = Workspace::here().packages();
    for package in packages.iter().filter(|package| package.is_public()) {
        // Optional dependencies have no limit, but whoever looks at the figures should see them.
        println!("{}: {}", package.name, manifests::dependency_summary(package));
    }
    assert_none(each_package(|package, _| manifests::exceeds_budget(package)));
}

#[test]
fn public_crates_are_ready_to_publish() {
    let here = Workspace::here();
    let root = here.read("Cargo.toml");
    assert_none(each_package(|package, _| {
        let manifest = package.manifest();
        manifests::incomplete(package, &manifest, &root, |file| package.folder().join(file).is_file())
    }));
}

#[test]
fn folders_are_named_as_packages() {
    assert_none(each_package(|package, _| manifests::misnamed(package)));
}

#[test]
fn the_climb_builds_few_packages() {
    let tree = Workspace::here().cargo(&[
        "tree",
        "--offline",
        "-p",
        "tenfold-examples",
        "-e",
        "normal,build",
        "--prefix",
        "none",
    ]);
    let count = manifests::distinct_packages(&tree);
    println!("the climb builds {count} packages");
    assert!(count > 1, "cargo tree printed no tree:\n{tree}");
    assert_none(manifests::too_many("the climb's default dependency tree", count, MAX_CLIMB_PACKAGES));
}

#[test]
fn examples_fit_two_hundred_lines() {
    assert_none(each_package(|package, _| {
        let examples = package.targets.iter().filter(|target| target.is_example());
        examples
            .flat_map(|target| {
                let text = std::fs::read_to_string(&target.src_path).expect("an example's file can be read");
                sources::too_long(&format!("{}: example {}", package.name, target.name), &text, 200)
            })
            .collect()
    }));
}

#[test]
fn source_files_hold_one_idea() {
    assert_none(each_source(|source| sources::too_long(&source.path, &source.text, 800)));
}

#[test]
fn clocks_are_read_in_clock_and_driver_modules_only() {
    assert_none(each_source(|source| sources::reads_clock(&source.path, &source.text)));
}

#[test]
fn nothing_is_half_built_or_switched_off() {
    assert_none(each_source(|source| sources::unfinished(&source.path, &source.text)));
}

#[test]
fn unsafe_code_stands_in_listed_modules_only() {
    assert_none(each_source(|source| sources::has_unsafe(&source.path, &source.text)));
}

#[test]
fn listed_modules_with_unsafe_code_exist() {
    let here = Workspace::here();
    let sources = here.sources();
    let gone = |path: &&&str| !sources.iter().any(|source| source.path == **path && source.text.contains("unsafe"));
    assert_none(
        sources::UNSAFE_MODULES.iter().filter(gone).map(|path| format!("{path} needs no place in the list")).collect(),
    );
}

#[test]
fn no_trace_is_in_the_tree() {
    assert_none(Workspace::here().files().iter().filter_map(|path| sources::is_trace(path)).collect());
}

#[test]
fn the_text_names_no_machine() {
    let sources = Workspace::here().sources();
    assert_none(sources.iter().flat_map(|source| sources::names_machine(&source.path, &source.text)).collect());
}
