//! Random statements on a cluster and on a plain database: the primary, its replica and the plain one end up the same.

use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};
use tenfold_replication::driver::sqlite::{SqliteConfig, SqliteError};
use tenfold_replication::driver::{Access, Driver};
use tenfold_replication::{Mode, Rng};

use super::fixture::Files;
use super::suite::Fixture;

const SCHEMA: &str = "
    create table a(id integer primary key autoincrement, n, t text unique collate nocase, r real,
                   d as (n || t) stored, check (n is not 'no'));
    create table b(k1 text collate nocase, k2 int, v blob, primary key(k1, k2)) without rowid;
    create table c(id integer primary key, a integer references a on delete cascade on update cascade);
    create table \"of d\"\"s\"(\"the key\" text primary key, \"order\" any);
    create table e(k text not null collate nocase, n, primary key(k collate binary));
    create table f(k text, n, primary key(k collate rtrim, n)) without rowid;
    create table g(k text primary key collate nocase, n);
    create table audit(id integer primary key, what text);
    create trigger a_own after insert on a when new.n is 1 begin
        update a set n = 2 where id = new.id; insert into audit(what) values ('i' || new.id); end;
    create trigger a_gone before delete on a begin insert into audit(what) values ('d' || old.id); end;
    create trigger b_moved after update of k2 on b begin delete from audit where id % 3 = 0; end;";

fn value(rng: &mut Rng) -> Value {
    match rng.below(9) {
        0 => Value::Null,
        1 => Value::Integer(rng.next_u64() as i64),
        2 => Value::Real(f64::from_bits(rng.next_u64() & !(1 << 62))),
        3 => Value::Real([0.1, -0.0, 1e300, f64::INFINITY, f64::NEG_INFINITY][rng.below(5) as usize]),
        4 => Value::Text(["", "a\0b", "A", "a", "a ", "ä\u{10ffff}", "no"][rng.below(7) as usize].into()),
        5 => Value::Blob((0..rng.below(20)).map(|_| rng.next_u64() as u8).collect()),
        _ => Value::Integer(rng.below(4) as i64),
    }
}

fn statement(rng: &mut Rng) -> (&'static str, Vec<Value>) {
    const STATEMENTS: [&str; 29] = [
        "insert into a(n, t, r) values (?1, ?2, ?3)",
        "insert or replace into a(id, n, t, r) values (?4, ?1, ?2, ?3)",
        "insert or ignore into a(id, n, t) values (?4, ?1, ?2)",
        "insert into a(id, n, t) values (?4, ?1, ?2) on conflict(id) do update set t = excluded.t",
        "update a set id = id + ?4 where id = ?5",
        "update or replace a set t = ?2 where id >= ?4",
        "update a set t = case id when ?4 then 'x' else 'y' end where id in (?4, ?5)",
        "update a set n = ?1, r = ?3 where id % 3 = ?4",
        "delete from a where id = ?4",
        "delete from a",
        "insert or replace into b values (?2, ?4, ?1)",
        "insert or fail into b values (?2, ?4, ?1), ('z', ?5, ?1), ('Z', ?5, ?2)",
        "update or ignore b set k2 = ?4, v = ?1 where k2 = ?5",
        "update b set k1 = upper(k1) || ?4 where k2 = ?5",
        "delete from b where k2 = ?4",
        "insert or replace into c values (?4, (select max(id) from a))",
        "update c set a = ?4 where id = ?5",
        "insert or replace into \"of d\"\"s\" values (?4 || 'k', ?1)",
        "delete from \"of d\"\"s\" where \"the key\" > ?4",
        "insert or replace into e values (substr('aAbB', ?4 % 4 + 1, 1), ?5)",
        "update or replace e set k = upper(k) where n = ?4",
        "delete from e where k = substr('aAbB', ?4 % 4 + 1, 1) collate binary",
        "insert or replace into f values (substr('a  ', 1, ?4 % 3 + 1), ?5 % 2)",
        "update or replace f set k = k || ' ' where n = ?4 % 2",
        "insert or replace into g values (substr('aAbB', ?4 % 4 + 1, 1), ?5)",
        "delete from g where k = substr('aAbB', ?4 % 4 + 1, 1)",
        "savepoint s",
        "rollback to s",
        "release s",
    ];
    let sql = STATEMENTS[rng.below(STATEMENTS.len() as u64) as usize];
    let mut values: Vec<_> = (0..3).map(|_| value(rng)).collect();
    values.extend((0..2).map(|_| Value::Integer(1 + rng.below(6) as i64)));
    (sql, values)
}

/// One transaction; statements may fail, as they do on the other database.
fn run(db: &Connection, statements: &[(&'static str, Vec<Value>)]) -> Vec<String> {
    let each = statements.iter().map(|(sql, values)| {
        let ran = db.prepare(sql).and_then(|mut statement| {
            let used = statement.parameter_count();
            statement.execute(rusqlite::params_from_iter(&values[..used]))
        });
        // What is no change has the count of the statement before, which may be one of the driver's.
        let counts = !["savepoint", "rollback", "release"].iter().any(|word| sql.starts_with(word));
        ran.map_or_else(|error| error.to_string(), |changed| if counts { changed.to_string() } else { "done".into() })
    });
    each.collect()
}

fn dump(db: &Connection) -> Result<Vec<Vec<Value>>, SqliteError> {
    let mut rows = Vec::new();
    for query in [
        "select 'a', id, n, t, r, d from a order by id",
        "select 'b', k1, k2, v from b order by k1, k2",
        "select 'c', * from c order by id",
        "select 'd', * from \"of d\"\"s\" order by 2",
        "select 'e', * from e order by k collate binary",
        "select 'f', * from f order by k, n",
        "select 'g', * from g order by k",
        "select 'audit', * from audit order by id",
        "select 's', * from sqlite_sequence",
    ] {
        let mut statement = db.prepare(query)?;
        let width = statement.column_count();
        let found = statement.query_map([], |row| (0..width).map(|column| row.get_ref(column).map(cell)).collect())?;
        rows.extend(found.collect::<Result<Vec<Vec<Value>>, _>>()?);
    }
    Ok(rows)
}

/// Text need not be UTF-8.
fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Text(bytes) => Value::Text(format!("{bytes:?}")),
        value => value.try_into().unwrap(),
    }
}

async fn check(seed: u64) {
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let files = Files::with(2, Mode::Asynchronous, SqliteConfig::default(), SCHEMA).await;
    let plain = Connection::open_in_memory().unwrap();
    plain.execute_batch("pragma recursive_triggers = on; pragma foreign_keys = on").unwrap();
    plain.execute_batch(SCHEMA).unwrap();
    let mut writer = files.connect(0, Access::Write).await;
    let first = files.connect(1, Access::Read).await;
    for round in 0..150 {
        let statements: Vec<_> = (0..1 + rng.below(8)).map(|_| statement(&mut rng)).collect();
        let is_undone = rng.below(8) == 0;
        plain.execute_batch("begin immediate").unwrap();
        let expected = run(&plain, &statements);
        plain.execute_batch(if is_undone { "rollback" } else { "commit" }).unwrap();
        files.driver().begin(&mut writer, Access::Write).await.unwrap();
        let ran = writer.run(move |db| Ok((run(db, &statements), statements))).await.unwrap();
        assert_eq!(ran.0, expected, "round {round}: {:?}", ran.1);
        if is_undone {
            files.driver().roll_back(&mut writer).await.unwrap();
        } else if let Err(error) = files.driver().commit(&mut writer).await {
            panic!("round {round}: {error}");
        }
        if round % 10 == 9 {
            files.caught_up().await;
            let expected = dump(&plain).unwrap();
            for node in 0..2 {
                let mut reader = files.connect(node, Access::Read).await;
                assert_eq!(reader.run(dump).await.unwrap(), expected, "seed {seed}, round {round}, node {node}");
            }
        }
    }
    let hashes = [
        files.driver().content_hash(&files.nodes[0]).await.unwrap(),
        files.driver().content_hash(&files.nodes[1]).await.unwrap(),
    ];
    assert_eq!(hashes[0], hashes[1]);
    assert!(files.driver().is_open(&first), "the replica was copied anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_what_a_plain_database_is() {
    let fresh = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    for seed in [1, 2, 3, 4, fresh] {
        check(seed).await;
    }
}

/// One row by several names, and several rows by one: what a key holds apart is for its index to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_told_apart_as_their_keys_do() {
    let cases = [
        ("k text primary key collate nocase, n", "('a', 1)", "('A', 2)", 1),
        ("k text collate rtrim, j any, n, primary key(k, j)", "('a', 1, 1)", "('a ', 1.0, 2)", 1),
        ("k text, n, primary key(k collate nocase)", "('a', 1)", "('A', 2)", 1),
        ("k text collate nocase, n, primary key(k collate binary)", "('a', 1)", "('A', 2)", 2),
        ("k primary key, n", "(1, 1)", "(1.0, 2)", 1),
        ("k real primary key, n", "(1, 1)", "('1.0', 2)", 1),
        ("k primary key, n", "('1', 1)", "(x'31', 2)", 2),
        ("k primary key on conflict replace, n unique on conflict ignore", "('a', 1)", "('A', 2)", 2),
    ];
    for (columns, one, other, count) in cases {
        let schema = format!("create table t({columns})");
        let files = Files::with(2, Mode::Asynchronous, SqliteConfig::default(), &schema).await;
        let first = files.connect(1, Access::Read).await;
        let mut writer = files.connect(0, Access::Write).await;
        for row in [one, other, one, other] {
            writer.execute(format!("insert or replace into t values {row}"), ()).await.unwrap();
        }
        let rows = writer.query("select count(*) from t", (), |row| row.get::<_, i64>(0)).await.unwrap();
        assert_eq!(rows, [count], "{columns}");
        writer.execute("update t set n = n + 10", ()).await.unwrap();
        writer.execute("update or replace t set k = upper(k) where n = 12", ()).await.unwrap();
        files.caught_up().await;
        let hash = files.driver().content_hash(&files.nodes[0]).await.unwrap();
        assert_eq!(files.driver().content_hash(&files.nodes[1]).await.unwrap(), hash, "{columns}");
        assert!(files.driver().is_open(&first), "{columns}: the replica was copied anew");
        writer.execute("delete from t where n = 11", ()).await.unwrap();
        files.caught_up().await;
        let hash = files.driver().content_hash(&files.nodes[0]).await.unwrap();
        assert_eq!(files.driver().content_hash(&files.nodes[1]).await.unwrap(), hash, "{columns}");
    }
}
