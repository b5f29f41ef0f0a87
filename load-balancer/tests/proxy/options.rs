//! A command line that cannot be: refused before anything listens, in words that name the option.

use crate::rig::{Fake, Proxy};

/// Refused, with this status and these words.
#[track_caller]
fn check(arguments: &str, status: i32, words: &str) {
    let (code, said) = Proxy::refusal(&arguments.split(' ').collect::<Vec<_>>());
    assert_eq!(code, Some(status), "{arguments}: {said}");
    assert!(said.starts_with("proxy: ") && said.contains(words), "{arguments}: {said}");
}

#[test]
fn what_is_wrong_is_said_with_the_name_of_the_option() {
    check("--bogus", 2, "there is no option --bogus");
    check("--bogus --listen 127.0.0.1:0", 2, "there is no option --bogus");
    check("--backend 127.0.0.1:1", 2, "--listen is missing");
    check("--listen 8080", 2, "--listen: `8080` is not an address and a port");
    check("--admin localhost:1", 2, "--admin: `localhost:1` is not an address and a port");
    check("--backend foo", 2, "--backend: `foo` is not ADDR[,WEIGHT]");
    check("--backend 127.0.0.1:1,heavy", 2, "--backend: `127.0.0.1:1,heavy` is not ADDR[,WEIGHT]");
    check("--policy rr", 2, "--policy: no policy has this name; there are round-robin, ");
    check("--mode udp", 2, "--mode: there is no mode `udp`, only http and tcp");
    check("--limit 3", 2, "--limit: there is no limit `3`");
    check("--threads 0", 2, "--threads: `0` is not a number of threads");
    check("--max-tries 9", 2, "`9` is no value for --max-tries");
    check("--limit-initial 3", 2, "`3` is no value for --limit-initial");
    check("--probe-interval 2", 2, "`2` is no value for --probe-interval");
    check("--idle-timeout", 2, "--idle-timeout");
}

#[test]
fn what_cannot_be_done_is_said_with_the_address() {
    let twice = "--listen 127.0.0.1:0 --backend 127.0.0.1:1 --backend 127.0.0.1:2 --backend 127.0.0.1:1,3";
    check(twice, 1, "the backend 127.0.0.1:1 is given twice");
    let taken = Fake::named("a").address;
    check(&format!("--listen {taken} --backend 127.0.0.1:1"), 1, &format!("cannot listen on {taken}: "));
    check(
        &format!("--listen 127.0.0.1:0 --admin {taken} --backend 127.0.0.1:1"),
        1,
        &format!("cannot listen on {taken}: "),
    );
}
