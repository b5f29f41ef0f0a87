use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::*;
use crate::{Backend, BackendId, Config, HealthState, ProbeConfig};

fn probe(address: SocketAddr) -> Probe {
    Probe {
        id: BackendId::of_address(address),
        address,
        timeout: Duration::from_millis(200),
        began: Default::default(),
    }
}

/// A server on loopback that answers the first connection so, and then closes it if it is to.
async fn serve(answer: &'static [u8], closes: bool) -> (SocketAddr, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let len = stream.read(&mut request).await.unwrap();
        assert!(request[..len].starts_with(b"GET /up HTTP/1.1\r\nhost: "));
        stream.write_all(answer).await.unwrap();
        if !closes {
            std::future::pending::<()>().await;
        }
    };
    (address, server)
}

/// What a probe says of a server that answers so.
async fn verdict(answer: &'static [u8], closes: bool) -> ProbeResult {
    let (address, server) = serve(answer, closes).await;
    let sent = limited(probe(address), HttpProbe::new("/up").unwrap().send(probe(address)));
    let server = async {
        server.await;
        std::future::pending().await
    };
    tokio::select! { (_, result) = sent => result, () = server => unreachable!() }
}

#[tokio::test]
async fn a_good_status_is_well_and_anything_else_is_not() {
    for good in [&b"HTTP/1.1 200 OK\r\n"[..], b"HTTP/1.0 204\r\n\r\n", b"HTTP/1.1 302 Found\r\nlocation: /\r\n"] {
        assert_eq!(verdict(good, false).await, ProbeResult::Good, "{}", good.escape_ascii());
    }
    for bad in [
        &b"HTTP/1.1 500 Oh\r\n\r\n"[..],
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 20\r\n",
        b"HTTP/2 200\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[b'x'; 4096],
        &[0xff; 300],
    ] {
        assert_eq!(verdict(bad, false).await, ProbeResult::Bad, "{}", bad.escape_ascii());
    }
    for cut in [&b""[..], b"HTTP/1.1 200 OK", b"HTT"] {
        assert_eq!(verdict(cut, true).await, ProbeResult::Bad, "{}", cut.escape_ascii());
    }
}

#[tokio::test]
async fn who_accepts_and_never_answers_is_not_well_after_the_timeout() {
    let (address, server) = serve(b"HTTP/1.1 ", false).await;
    let sent = limited(probe(address), HttpProbe::new("/up").unwrap().send(probe(address)));
    tokio::select! { (_, result) = sent => assert_eq!(result, ProbeResult::Bad), () = server => unreachable!() }
}

#[tokio::test]
async fn who_refuses_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(TcpProbe.send(probe(address)).await, ProbeResult::Good);
    drop(listener);
    assert_eq!(TcpProbe.send(probe(address)).await, ProbeResult::Bad);
    assert_eq!(HttpProbe::new("/up").unwrap().send(probe(address)).await, ProbeResult::Bad);
}

#[test]
fn no_request_can_be_smuggled_through_the_configuration() {
    assert!(HttpProbe::new("/up?a=b").is_ok());
    for bad in ["", "up", "/a b", "/a\r\nx: y", "/ä"] {
        assert!(HttpProbe::new(bad).is_err(), "{bad:?}");
    }
    for bad in ["", "a b", "a\r\n"] {
        assert!(HttpProbe::new("/").unwrap().with_host(bad).is_err(), "{bad:?}");
    }
}

/// The whole of it on tokio's stopped clock: who is not well goes down, and comes back; never more probes under way
/// than allowed, and one that hangs holds none of the others up.
#[tokio::test(start_paused = true)]
async fn backends_go_down_and_come_back_by_their_probes() {
    let probes = ProbeConfig { max_concurrent: 3, ..ProbeConfig::default() };
    let timeout = probes.timeout;
    let config = Config { probes: Some(probes), ..Config::default() };
    let balancer: Balancer = Balancer::builder().config(config).seed(1).started_at(now()).build().unwrap();
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    balancer.replace((1..=10).map(|port| Backend::new(address(port))).collect()).unwrap();
    let health = |port: u16| {
        let backends = balancer.backends();
        backends.iter().find(|backend| backend.address == address(port)).unwrap().health
    };
    let (running, most, hanging) = (Cell::new(0), Cell::new(0), RefCell::new(vec![7]));
    let send = |probe: Probe| {
        running.set(running.get() + 1);
        most.set(most.get().max(running.get()));
        let ends = Ends(&running);
        let hangs = hanging.borrow().contains(&probe.address.port());
        async move {
            let _ends = ends;
            tokio::time::sleep(if hangs { Duration::MAX } else { Duration::from_millis(5) }).await;
            true
        }
    };
    let mut driving = Box::pin(drive_probes(balancer.clone(), send));
    tokio::time::timeout(5 * timeout, &mut driving).await.unwrap_err();
    for port in 1..=10 {
        assert_eq!(health(port), if port == 7 { HealthState::Down } else { HealthState::Healthy }, "{port}");
    }
    assert_eq!(most.get(), 3);
    hanging.borrow_mut().clear();
    tokio::time::timeout(3 * timeout, &mut driving).await.unwrap_err();
    assert_ne!(health(7), HealthState::Down);
    drop(driving);
    assert_eq!(running.get(), 0, "dropping it stops all");
}

/// Counts a probe as ended when it is dropped.
struct Ends<'a>(&'a Cell<usize>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Two backends of which one says that it has much to do; a third never answers.
#[tokio::test(start_paused = true)]
async fn loads_are_asked_for_and_followed() {
    let addresses: Vec<SocketAddr> = (1..=3).map(|host| ([10, 0, 0, host], 80).into()).collect();
    let balancer: Balancer =
        Balancer::builder().policy(crate::Policy::Prequal).seed(1).started_at(now()).build().unwrap();
    balancer.replace(addresses.iter().map(|address| Backend::new(*address)).collect()).unwrap();
    let asked = RefCell::new(Vec::new());
    let ask = |probe: Probe| {
        asked.borrow_mut().push(probe.address);
        let busy = probe.address == addresses[0];
        let report = LoadReport {
            in_flight: if busy { 90 } else { 1 },
            latency: Duration::from_millis(if busy { 50 } else { 5 }),
        };
        let silent = probe.address == addresses[2];
        async move {
            if silent {
                std::future::pending::<()>().await;
            }
            Some(report)
        }
    };
    let config = LoadProbeConfig { max_concurrent: 2, ..LoadProbeConfig::default() };
    let probing = drive_load_probes(balancer.clone(), config, ask);
    assert!(tokio::time::timeout(Duration::from_secs(10), probing).await.is_err(), "for ever");
    for address in &addresses {
        let count = asked.borrow().iter().filter(|asked| *asked == address).count();
        assert!((38..=42).contains(&count), "{count} in 10 s");
    }
    let mut picker = balancer.picker();
    let picks = (0..1_000).map(|_| picker.next(&crate::Request::default(), now()).unwrap().address());
    let busy = picks.filter(|address| *address == addresses[0]).count();
    assert!(busy < 100, "{busy} of 1,000");
}
