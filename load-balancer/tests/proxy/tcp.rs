//! TCP mode: bytes both ways, and the end of each way by itself.

use std::net::TcpListener;

use crate::rig::{Conn, Fake, Proxy};

fn echo() -> Fake {
    Fake::new(|conn: &mut Conn| {
        while let Some(byte) = conn.take(1) {
            if !conn.send(&byte) {
                return;
            }
        }
        conn.send(b"over");
        conn.finish();
    })
}

#[test]
fn bytes_pass_both_ways_and_each_end_is_passed_on() {
    let backend = echo();
    let proxy = Proxy::start(&[backend.address], &["--mode", "tcp"]);
    let mut client = proxy.client();
    client.send("hello");
    assert_eq!(client.take(5).as_deref(), Some(&b"hello"[..]));
    client.send("\0\r\n");
    client.finish();
    assert_eq!(client.rest(), b"\0\r\nover", "the other way goes on after the first has ended");
}

#[test]
fn much_passes_in_order() {
    let backend = Fake::new(|conn: &mut Conn| {
        let mut sum = 0_u64;
        let mut count = 0_u64;
        while let Some(bytes) = conn.take(1) {
            count += 1;
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(bytes[0]));
        }
        conn.send(format!("{count} {sum}").as_bytes());
    });
    let proxy = Proxy::start(&[backend.address], &["--mode", "tcp"]);
    let mut client = proxy.client();
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|index| (index % 249) as u8).collect();
    let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    client.send_bytes(&bytes);
    client.finish();
    assert_eq!(String::from_utf8(client.rest()).unwrap(), format!("1000000 {sum}"));
}

#[test]
fn a_backend_that_refuses_is_passed_over() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let backend = echo();
    let proxy = Proxy::start(&[nobody, backend.address], &["--mode", "tcp", "--threads", "1"]);
    for _ in 0..4 {
        let mut client = proxy.client();
        client.send("x");
        client.finish();
        assert_eq!(client.rest(), b"xover");
    }
}

#[test]
fn with_nobody_there_the_connection_is_closed() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::start(&[nobody], &["--mode", "tcp"]);
    assert!(proxy.client().is_closed());
}

#[test]
fn tries_at_backends_that_refuse_are_bounded() {
    let nobody = [0, 1, 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let proxy = Proxy::start(&nobody, &["--mode", "tcp", "--threads", "1"]);
    for _ in 0..400 {
        assert!(proxy.client().is_closed());
    }
    let backends = proxy.ask("GET", "/backends").text();
    let counts =
        backends.split("\"requests\":").skip(1).map(|rest| rest.split(',').next().unwrap().parse::<u32>().unwrap());
    let tries: u32 = counts.sum();
    assert!(tries < 600, "{tries} for 400 connections; a hundred are the budget's reserve");
}

#[test]
fn silence_both_ways_ends_in_time() {
    let backend = echo();
    let proxy = Proxy::start(&[backend.address], &["--mode", "tcp", "--tunnel-timeout", "200ms"]);
    assert!(proxy.client().is_closed());
}
