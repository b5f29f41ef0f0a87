//! A run from its command line to its exit code.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use app::jobs::engine::Engine as Queue;
use app::jobs::nats::NatsServer;
use app::keys::Keys;
use app::replicated::Engine as Database;
use app::replicated::postgres::PostgreSql;
use app::rung::{Climb, Rung};
use futures_util::future::try_join_all;
use tenfold_rig::{
    Claim, Cost, MAX_MACHINE_SHARE, Machine, MachineUse, Neighbours, Progress, ROWS, Report, RoleResult, RungReport,
    Story, Table, UserModel, Value, Verdict, check_quiet, now, read_verdicts, render_ledger,
};

use crate::args::{self, Args, Command};
use crate::{anew, facts, plan, play};

const WRONG_USAGE: u8 = 2;
/// Rows whose figures are times or capacities of modelled servers.
const REST_ON_MODELLED_TIME: [&str; 12] =
    ["r04", "r05", "r09", "r15", "r18", "r20", "r21", "r22", "r25", "r26", "r27", "r55"];
/// How long the machine is watched before a run.
const WATCHED: Duration = Duration::from_millis(400);

/// A folder or file that the report cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to {}", path.display())]
struct Unwritable {
    path: PathBuf,
    source: io::Error,
}

/// Does what the command line asks for.
pub(crate) async fn start(rungs: &[Rung]) -> RoleResult<ExitCode> {
    let numbers: Vec<u8> = rungs.iter().map(|rung| rung.number).collect();
    let args = match args::parse(std::env::args().skip(1), &numbers) {
        Ok(args) => args,
        Err(error) => return Ok(refuse(&error)),
    };
    let engines = match engines(&args) {
        Ok(engines) => engines,
        Err(error) => return Ok(refuse(&*error)),
    };
    let lacking = anew::lacking(args.engines);
    if !lacking.is_empty() {
        return Ok(refuse(&anew::with(&lacking)));
    }
    match args.command {
        Command::Help => println!("{}", args::HELP),
        Command::Ledger => print!("{}", render_ledger(ROWS, &read_verdicts(args.out.join("report.json"))?)),
        Command::Plan { daily_users } => print!("{}", plan::plan(&cost(&args), daily_users)),
        Command::Climb { first, last } => {
            let chosen: Vec<_> = rungs.iter().filter(|rung| (first..=last).contains(&rung.number)).copied().collect();
            return climb(&args, engines, &chosen).await;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(WRONG_USAGE)
}

/// What was asked for, as it is installed here.
fn engines(args: &Args) -> RoleResult<(Database, Queue)> {
    let args::Engines { postgres, nats } = args.engines;
    let database = if postgres { Database::Postgres(PostgreSql::find()?) } else { Database::default() };
    let queue = if nats { Queue::Nats(NatsServer::find()?) } else { Queue::default() };
    Ok((database, queue))
}

fn cost(args: &Args) -> Cost {
    if args.real_cost { Cost::real() } else { Cost::modelled() }
}

fn keys(args: &Args) -> RoleResult<Keys> {
    Ok(match &args.keys {
        args::Keys::Fitted => Keys::fitted(),
        args::Keys::Trace(file) => Keys::trace(file)?,
        args::Keys::Zipf(exponent) => Keys::zipf(*exponent)?,
    })
}

async fn climb(args: &Args, (database, queue): (Database, Queue), rungs: &[Rung]) -> RoleResult<ExitCode> {
    // What can be wrong with the request is found out before minutes are spent on it.
    let keys = keys(args)?;
    check_writable(&args.out, args.json.as_deref())?;
    let neighbours = if args.noisy { Neighbours::Accept } else { Neighbours::Refuse };
    let quiet = check_quiet(WATCHED, neighbours).await?;

    let (story, began) = (Story::stdout(), now());
    let ticker = story.clone();
    let progress = Progress::new(move |line| {
        ticker.tick(now() - began, line);
    });
    let (cost, turn) = (cost(args), Arc::default());
    let climb = Arc::new(Climb { cost, quick: args.quick, seed: args.seed, keys, queue, database, progress, turn });
    let up = match (args.listen, rungs) {
        (Some(listen), [rung]) => Some((rung.play)(Arc::clone(&climb), listen).await?),
        _ => None,
    };
    story.say(&climb.cost.to_string());
    story.say(climb.keys.describe());

    let machine = Machine::begin()?;
    let mut report = new_report(args, &climb);
    report.noisy = quiet.noisy;
    // Without modelled time each rung wants the machine for itself.
    for group in rungs.chunk_by(|one, next| one.is_light && next.is_light && !climb.cost.is_real()) {
        let titles: Vec<_> = group.iter().map(|rung| format!("rung {:02}: {}", rung.number, rung.title)).collect();
        story.say(&format!("\n{}", titles.join("\n")));
        let done = try_join_all(group.iter().map(|rung| (rung.climb)(Arc::clone(&climb)))).await?;
        for (mut done, title) in done.into_iter().zip(titles) {
            if group.len() > 1 {
                story.say(&title);
            }
            if let Some(engine) = &done.engine {
                story.say(&format!("  on {engine}"));
            }
            if climb.cost.is_real() {
                set_aside(&mut done);
            }
            done.claims.iter().for_each(|claim| story.say(&line(claim)));
            report.push(done);
        }
    }
    let used = machine.finish()?;
    report.elapsed_s = (now() - began).as_secs_f64();
    report.machine.extend(facts::used(&used));
    story.say("");
    story.say(&report.to_text());
    for path in report.write(&args.out)? {
        story.say(&format!("wrote {}", path.display()));
    }
    if let Some(path) = &args.json {
        fs::write(path, report.to_json()).map_err(|source| Unwritable { path: path.clone(), source })?;
    }
    if let Some(stack) = up {
        play::stay_up(&story, &stack).await?;
    }
    Ok(verdict(&story, &report, &used, args))
}

fn new_report(args: &Args, climb: &Climb) -> Report {
    let cost = &climb.cost;
    Report {
        p99_bound_ms: climb.promise().p99_ms,
        users: UserModel { requests_per_user_day: cost.requests_per_user_day, peak_factor: cost.peak_factor },
        machine: facts::machine(),
        cost: facts::cost(cost),
        workload: climb.keys.describe().to_owned(),
        mode: if args.quick { "quick" } else { "full" }.to_owned(),
        seed: args.seed,
        commit: facts::commit(),
        started: Some(facts::utc(tenfold_rig::unix_seconds())),
        ..Report::default()
    }
}

/// Makes the folder and tries a file in it, so that a run does not end with nowhere to put its result.
fn check_writable(out: &Path, json: Option<&Path>) -> Result<(), Unwritable> {
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| Unwritable { path, source }
    };
    fs::create_dir_all(out).map_err(unwritable(out))?;
    let probe = out.join(".probe");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(unwritable(out))?;
    if let Some(json) = json {
        fs::OpenOptions::new().create(true).append(true).open(json).map_err(unwritable(json))?;
    }
    Ok(())
}

/// Moves claims that rest on modelled times, and do not hold without them, into a table: that they fail is what a run
/// with real cost shows.
fn set_aside(rung: &mut RungReport) {
    let rests = |claim: &Claim| REST_ON_MODELLED_TIME.contains(&claim.id.as_str()) && claim.verdict == Verdict::Fail;
    let (aside, kept) = std::mem::take(&mut rung.claims).into_iter().partition::<Vec<_>, _>(rests);
    rung.claims = kept;
    if aside.is_empty() {
        return;
    }
    let mut table = Table::new("does not hold on one machine without modelled times", ["row", "figure"]);
    for claim in &aside {
        table.row([claim.id.clone(), line(claim).trim().to_owned()]);
    }
    table.note = "tiers that share the cores of one machine gain nothing by being more".to_owned();
    rung.tables.push(table);
}

/// A claim with its figure and that of its control.
fn line(claim: &Claim) -> String {
    let mark = if claim.verdict == Verdict::Pass { "ok  " } else { "FAIL" };
    let figure = |value: &Value| match value {
        Value::Number(number) if number.fract() == 0.0 => format!("{number:.0}"),
        Value::Number(number) => format!("{number:.2}"),
        Value::Text(text) => text.clone(),
    };
    let control = claim.control.as_ref().map_or_else(String::new, |control| format!(" (control {})", figure(control)));
    format!("  {mark} {} {}: {} {}{control}", claim.id, claim.text, figure(&claim.value), claim.unit)
}

/// 0 if every claim holds, no measurement is suspect and the machine was not the limit.
fn verdict(story: &Story, report: &Report, used: &MachineUse, args: &Args) -> ExitCode {
    let mut is_good = true;
    for (rung, claim) in report.claims().filter(|(_, claim)| claim.verdict != Verdict::Pass) {
        is_good = false;
        story.say(&format!("rung {}: {} does not hold: {}", rung.rung, claim.id, claim.text));
    }
    for rung in &report.rungs {
        if rung.suspect {
            is_good = false;
            let ratio = rung.ratio.unwrap_or_default();
            story.say(&format!("rung {}: harness suspect: measured/theory is {ratio:.2}", rung.rung));
        }
    }
    if used.is_suspect && !args.noisy {
        is_good = false;
        let (percent, most) = (used.machine_share * 100.0, MAX_MACHINE_SHARE * 100.0);
        story.say(&format!("no claim: the machine was {percent:.0} % busy, more than {most:.0} %"));
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
