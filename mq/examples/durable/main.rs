//! A queue for scripts: lines in, ids out when they are safe; messages out, acked when they are printed.
//!
//! ```text
//! durable send --dir D [--sync always|interval|os] [--producers N]   a message a line of stdin; prints ids once confirmed
//! durable recv --dir D [--ack] [--idle-exit-ms N]                    prints ID<TAB>BODY, a message a line
//! durable stat --dir D                                              counts as JSON
//! durable verify --dir D                                            exits 1 with the place of the first damage
//! ```
//!
//! Exit codes: 0 done, 1 failed, damaged, or no queue there, 2 wrong arguments. Only `send` begins a queue.

mod options;

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use options::{Command, Options, USAGE};
use tenfold_mq::{Durability, OpenError, Producer, Queue, Ticket};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Unconfirmed messages at a time: enough that one sync confirms many.
const WINDOW: usize = 1024;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1).collect()) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("durable: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let outcome = match options.command {
        Command::Send => send(&options),
        Command::Receive => receive(&options),
        Command::Stat => stat(&options),
        Command::Verify => verify(&options),
        Command::Help => writeln!(io::stdout(), "{USAGE}").map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<OpenError>() => {
            eprintln!("durable: {}: {}", options.dir, chain(&*error));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("durable: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Producers read lines and send them, one thread prints ids in the order in which they are confirmed.
fn send(options: &Options) -> Outcome<()> {
    let queue = options.open(options.sync)?;
    let (tickets, confirmed) = sync_channel(WINDOW);
    let lines = Mutex::new(io::BufReader::new(io::stdin()).split(b'\n'));
    let driver = queue.driver();
    thread::scope(|scope| {
        scope.spawn(move || driver.run());
        let printer = scope.spawn(|| print_ids(confirmed));
        let producers: Vec<_> = (0..options.producers)
            .map(|_| {
                let (producer, tickets, lines) = (queue.producer(), tickets.clone(), &lines);
                scope.spawn(move || submit_lines(&producer, lines, &tickets))
            })
            .collect();
        drop(tickets);
        let sent: Vec<_> = producers.into_iter().map(join).collect();
        let printed = join(printer);
        queue.close()?;
        sent.into_iter().chain([printed]).collect()
    })
}

fn join(thread: thread::ScopedJoinHandle<'_, Outcome<()>>) -> Outcome<()> {
    thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
}

fn submit_lines(
    producer: &Producer,
    lines: &Mutex<impl Iterator<Item = io::Result<Vec<u8>>>>,
    tickets: &SyncSender<Ticket>,
) -> Outcome<()> {
    loop {
        let line = lines.lock().map_err(|_| "another producer panicked")?.next();
        let Some(line) = line.transpose()? else { return Ok(()) };
        if tickets.send(producer.submit(line)?).is_err() {
            // The printer has said why.
            return Ok(());
        }
    }
}

fn print_ids(tickets: Receiver<Ticket>) -> Outcome<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        let ticket = match tickets.try_recv() {
            Ok(ticket) => ticket,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                out.flush()?;
                match tickets.recv() {
                    Ok(ticket) => ticket,
                    Err(_) => break,
                }
            }
        };
        if !ticket.is_confirmed() {
            // What was confirmed before should not wait for this one.
            out.flush()?;
        }
        writeln!(out, "{}", ticket.wait()?)?;
    }
    Ok(out.flush()?)
}

/// An ack follows each line once it is flushed, and is with the system before the next line is printed: whenever this
/// process is killed, at most one message that was printed is delivered again.
fn receive(options: &Options) -> Outcome<()> {
    let queue = options.open(Durability::Os)?;
    let consumer = queue.consumer();
    let mut out = io::stdout().lock();
    let mut line = Vec::new();
    loop {
        let delivery = match options.idle_exit {
            Some(idle) => consumer.receive_timeout(idle)?,
            None => Some(consumer.receive()?),
        };
        let Some(delivery) = delivery else { break };
        line.clear();
        write!(line, "{}\t", delivery.id())?;
        line.extend_from_slice(delivery.body());
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()?;
        if options.ack {
            delivery.ack_durable()?.wait()?;
        } else {
            delivery.into_receipt();
        }
    }
    Ok(queue.close()?)
}

fn stat(options: &Options) -> Outcome<()> {
    let queue = options.open(Durability::Os)?;
    let stats = queue.stats();
    let group = queue.default_group().stats()?;
    println!(
        "{{\"messages\": {}, \"bytes\": {}, \"ready\": {}, \"delayed\": {}, \"dead\": {}, \"segments\": {}, \
         \"disk_bytes\": {}}}",
        stats.messages, stats.message_bytes, group.ready, group.delayed, group.dead, stats.segments, stats.disk_bytes
    );
    Ok(())
}

fn verify(options: &Options) -> Outcome<()> {
    let verified = Queue::verify(&options.dir)?;
    println!("{} records in {} segments, {} bytes", verified.records, verified.segments, verified.bytes);
    Ok(())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
