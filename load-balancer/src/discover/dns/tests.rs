use simple_dns::RCODE;

use super::server::{Entry, Manner, Server};
use super::*;

/// Asks again at once, and loses patience soon: no test waits for a time to live.
fn quick(server: &Server) -> DnsConfig {
    DnsConfig {
        servers: vec![server.address],
        min_ttl: Duration::from_millis(1),
        try_timeout: Duration::from_millis(150),
        timeout: Duration::from_secs(20),
        ..DnsConfig::default()
    }
}

fn addresses(server: &Server) -> DnsSource {
    DnsSource::addresses("web.test.", 80).unwrap().config(quick(server))
}

fn service(server: &Server) -> DnsSource {
    DnsSource::service("_http._tcp.test.").unwrap().config(quick(server))
}

/// Address, weight and priority of each backend of the next change.
async fn next(source: &mut DnsSource) -> Result<Vec<(String, u32, u8)>, DiscoverError> {
    let Change::Replace(backends) = source.next_change().await.expect("it does not end")? else {
        unreachable!("only replacements are made")
    };
    Ok(backends.iter().map(|b| (b.address().to_string(), b.weight(), b.priority())).collect())
}

async fn expect(source: &mut DnsSource, hosts: &[&str]) {
    let found = next(source).await.unwrap();
    assert_eq!(found.iter().map(|(address, ..)| address.as_str()).collect::<Vec<_>>(), hosts);
}

/// Lets the source ask a few times, and makes sure that it says nothing.
async fn expect_silence(source: &mut DnsSource, server: &Server) {
    let before = server.questions();
    tokio::select! {
        biased;
        change = source.next_change() => panic!("{change:?}"),
        () = async { while server.questions() < before + 8 { tokio::task::yield_now().await } } => {}
    }
}

#[test]
fn names_are_checked() {
    for bad in ["", ".", "a..b", &"a".repeat(64), &"abc.".repeat(80)] {
        assert_eq!(DnsSource::service(bad).map(drop), Err(DnsNameError), "{bad:?}");
    }
}

#[tokio::test]
async fn follows_a_zone_that_changes() {
    let server = Server::start().await;
    let mut source = addresses(&server);
    server.host("web.test", &["10.0.0.2", "10.0.0.1", "fd00::1", "10.0.0.1"]);
    expect(&mut source, &["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]).await;
    // Rotated answers are no change.
    server.host("web.test", &["10.0.0.1", "fd00::1", "10.0.0.2"]);
    expect_silence(&mut source, &server).await;
    server.host("web.test", &["10.0.0.3"]);
    expect(&mut source, &["10.0.0.3:80"]).await;
}

#[tokio::test]
async fn errors_are_of_their_kind_and_the_next_answer_ends_them() {
    let server = Server::start().await;
    let mut source = addresses(&server);
    assert!(next(&mut source).await.unwrap_err().is_not_found());
    server.host("web.test", &["10.0.0.1"]);
    expect(&mut source, &["10.0.0.1:80"]).await;
    for code in [RCODE::ServerFailure, RCODE::Refused] {
        server.set("web.test", Manner::Code(code));
        assert!(next(&mut source).await.unwrap_err().is_unavailable(), "{code:?}");
    }
    server.set("web.test", Manner::Silence);
    assert!(next(&mut source).await.unwrap_err().is_timeout());
    for manner in [Manner::Garbage, Manner::Torn] {
        server.set("web.test", manner.clone());
        let error = next(&mut source).await.unwrap_err();
        assert!(error.is_unavailable() || error.is_invalid(), "{manner:?}: {error:?}");
    }
    server.host("web.test", &["10.0.0.1"]);
    expect(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test]
async fn a_round_is_bounded_in_time() {
    let server = Server::start().await;
    server.set("web.test", Manner::Silence);
    let config =
        DnsConfig { try_timeout: Duration::from_secs(3600), timeout: Duration::from_millis(20), ..quick(&server) };
    assert!(next(&mut addresses(&server).config(config)).await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_name_without_addresses_is_an_empty_answer() {
    let server = Server::start().await;
    server.set("web.test", Manner::Code(RCODE::NoError));
    expect(&mut addresses(&server), &[]).await;
    server.set("_http._tcp.test", Manner::Code(RCODE::NoError));
    expect(&mut service(&server), &[]).await;
    server.service("_http._tcp.test", &[(0, 0, 0, ".")]);
    expect(&mut service(&server), &[]).await;
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_over_tcp() {
    let server = Server::start().await;
    let many = (0..=255).map(|host| Entry::Address([10, 0, 0, host].into())).collect();
    server.set("web.test", Manner::Truncated(many));
    assert_eq!(next(&mut addresses(&server)).await.unwrap().len(), 256);
    assert!(server.over_tcp() > 0);
}

#[tokio::test]
async fn a_kind_of_address_that_fails_is_as_before() {
    let server = Server::start().await;
    let mut source = addresses(&server);
    server.host("web.test", &["10.0.0.1", "fd00::1"]);
    expect(&mut source, &["10.0.0.1:80", "[fd00::1]:80"]).await;
    server.set("web.test", Manner::FailsV6(vec![Entry::Address([10, 0, 0, 2].into())]));
    expect(&mut source, &["10.0.0.2:80", "[fd00::1]:80"]).await;
    server.host("web.test", &["10.0.0.2"]);
    expect(&mut source, &["10.0.0.2:80"]).await;
}

#[tokio::test]
async fn services_have_weights_and_priorities() {
    let server = Server::start().await;
    server.host("a.test", &["10.0.0.1"]);
    server.host("b.test", &["10.0.0.2", "fd00::2"]);
    server.host("c.test", &["10.0.0.3"]);
    server.service("_http._tcp.test", &[(10, 6, 81, "a.test"), (10, 4, 82, "b.test"), (90, 0, 83, "c.test")]);
    let found = next(&mut service(&server)).await.unwrap();
    let expected = [("10.0.0.1:81", 3, 0), ("10.0.0.2:82", 1, 0), ("10.0.0.3:83", 1, 1), ("[fd00::2]:82", 1, 0)];
    assert_eq!(found, expected.map(|(address, weight, priority)| (address.to_owned(), weight, priority)));
}

/// What is left is taken by the balancer, and nobody asks where the host is that has no port.
#[tokio::test]
async fn a_record_with_port_0_is_left_out() {
    let server = Server::start().await;
    server.host("a.test", &["10.0.0.1"]);
    server.set("b.test", Manner::Code(RCODE::ServerFailure));
    server.service("_http._tcp.test", &[(0, 1, 81, "a.test"), (0, 1, 0, "a.test"), (0, 1, 0, "b.test")]);
    let mut source = service(&server);
    let change = source.next_change().await.expect("it does not end").unwrap();
    let balancer: crate::Balancer = crate::Balancer::builder().build().unwrap();
    balancer.apply(change).unwrap();
    assert_eq!(balancer.backends().iter().map(|own| own.address.to_string()).collect::<Vec<_>>(), ["10.0.0.1:81"]);
    server.service("_http._tcp.test", &[(0, 1, 0, "a.test")]);
    expect(&mut source, &[]).await;
}

#[tokio::test]
async fn addresses_that_came_along_are_not_asked_for() {
    let server = Server::start().await;
    let records = vec![Entry::Service { priority: 0, weight: 1, port: 81, target: "a.test" }];
    let additional =
        vec![("a.test", Entry::Address([10, 0, 0, 1].into())), ("x.test", Entry::Address([10, 0, 0, 9].into()))];
    server.set("_http._tcp.test", Manner::Answer { records, additional });
    server.set_ttl(3600);
    expect(&mut service(&server), &["10.0.0.1:81"]).await;
    assert_eq!(server.questions(), 1);
}

#[tokio::test]
async fn a_target_that_cannot_be_found_is_as_before() {
    let server = Server::start().await;
    let mut source = service(&server);
    server.host("a.test", &["10.0.0.1"]);
    server.host("b.test", &["10.0.0.2"]);
    server.service("_http._tcp.test", &[(0, 1, 80, "a.test"), (0, 1, 80, "b.test")]);
    expect(&mut source, &["10.0.0.1:80", "10.0.0.2:80"]).await;
    server.set("b.test", Manner::Code(RCODE::ServerFailure));
    server.host("a.test", &["10.0.0.3"]);
    expect(&mut source, &["10.0.0.2:80", "10.0.0.3:80"]).await;
    server.set("a.test", Manner::Code(RCODE::ServerFailure));
    server.service("_http._tcp.test", &[(0, 1, 80, "c.test")]);
    server.set("c.test", Manner::Code(RCODE::ServerFailure));
    assert!(next(&mut source).await.unwrap_err().is_unavailable(), "nothing is known of any target");
}

#[tokio::test]
async fn too_many_targets_are_an_error() {
    let server = Server::start().await;
    server.service("_http._tcp.test", &[(0, 1, 80, "a.test"), (0, 1, 80, "b.test"), (0, 1, 80, "c.test")]);
    let mut source = service(&server).config(DnsConfig { max_targets: 2, ..quick(&server) });
    assert!(next(&mut source).await.unwrap_err().is_too_many());
}

#[tokio::test]
async fn a_flapping_zone_is_smoothed_when_asked() {
    let server = Server::start().await;
    let mut source = addresses(&server).config(DnsConfig { removal_after: 3, ..quick(&server) });
    server.host("web.test", &["10.0.0.1", "10.0.0.2"]);
    expect(&mut source, &["10.0.0.1:80", "10.0.0.2:80"]).await;
    server.host("web.test", &["10.0.0.1"]);
    let before = server.questions();
    expect(&mut source, &["10.0.0.1:80"]).await;
    // Two questions a round.
    assert!(server.questions() >= before + 6, "it was removed before the third answer without it");
}

/// The time to live decides when the source asks again, between its bounds.
#[tokio::test]
async fn the_time_to_live_has_bounds() {
    let server = Server::start().await;
    server.host("web.test", &["10.0.0.1"]);
    let bounds = DnsConfig { min_ttl: Duration::from_secs(10), max_ttl: Duration::from_secs(60), ..quick(&server) };
    for (ttl, expected) in [(0, 10), (30, 30), (u32::MAX, 60)] {
        server.set_ttl(ttl);
        let mut source = addresses(&server).config(bounds.clone());
        let start = tokio::time::sleep(Duration::ZERO).deadline();
        expect(&mut source, &["10.0.0.1:80"]).await;
        let wait = source.timer.deadline().unwrap() - start;
        let expected = Duration::from_secs(expected);
        assert!((expected..expected + Duration::from_secs(9)).contains(&wait), "{wait:?} for {ttl}");
    }
}

/// A call that is cancelled in the middle of a round loses nothing.
#[tokio::test]
async fn a_cancelled_call_goes_on_later() {
    let server = Server::start().await;
    let mut source = addresses(&server);
    server.host("web.test", &["10.0.0.1"]);
    for steps in 0..20 {
        let steps = async {
            for _ in 0..steps {
                tokio::task::yield_now().await
            }
        };
        tokio::select! {
            biased;
            change = source.next_change() => {
                assert!(matches!(change, Some(Ok(Change::Replace(_)))));
                return;
            }
            () = steps => {}
        }
    }
    expect(&mut source, &["10.0.0.1:80"]).await;
}
