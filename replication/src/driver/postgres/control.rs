//! Control of one node: what it is, its promise, and what makes it a primary or a replica.
//!
//! # How a promise is kept
//!
//! All changes are made under an advisory lock of the server, which is there on replicas as well, and end with the
//! connection of whoever holds it. The promise itself is a setting, durable before anything else is done.
//!
//! A primary is fenced in three steps: its default for transactions is to read only, also after a restart; nobody is left
//! who could confirm a commit to whoever asks to write nevertheless; and all sessions from before are ended. What was
//! being committed is not acknowledged then. Where its log ends is noted: later records are the server's own.
//!
//! A replica is fenced by taking away from whom it receives. That is done once its receiver is gone and all that it had
//! received is replayed, but for the beginning of a record whose end was not received.

use std::future::Future;
use std::time::Duration;

use tokio_postgres::{Client, Config, Row, Statement};

use super::PgError;
use super::dial::{self, Dial};
use super::link::Link;
use super::position::{history_file, parse_history, print_lsn};
use super::probe::{Place, Probe};
use super::settings::{self, Settings};
use super::shown::{Committing, Shown, committing};
use crate::clock::deadline;
use crate::driver::{Ballot, Observation};
use crate::{History, Lsn, Role};

/// Names its sessions, which a fence does not end.
pub(super) const APPLICATION: &str = "tenfold control";

/// Whose turn it is to change a node.
const LOCK: &str = "select pg_advisory_lock(8387223)";
const UNLOCK: &str = "select pg_advisory_unlock(8387223)";

const POLL: Duration = Duration::from_millis(2);

const STATE: &str = "select current_setting('tenfold.promised', true), current_setting('tenfold.fenced', true),
    current_setting('tenfold.upstream', true), current_setting('default_transaction_read_only') = 'on',
    exists(select from pg_stat_wal_receiver where status = 'streaming'),
    current_setting('synchronous_standby_names') <> ''";

/// Of a primary whose commits wait for standbys.
const COMMITTING: &str = concat!("select ", committing!());

/// Ends sessions from before the settings were taken over, and counts them.
const END_SESSIONS: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
    where backend_type = 'client backend' and pid <> pg_backend_pid() and application_name <> 'tenfold control'
    and backend_start <= pg_conf_load_time()";

const OVERRIDES: &str = "select exists(select from pg_db_role_setting, unnest(setconfig) as setting
    where setting like 'default_transaction_read_only=%')";

const RECEIVERS: &str = "select count(*) from pg_stat_wal_receiver";

/// Nobody's name: a commit that waits for it waits for ever.
const NOBODY: &str = "\"fenced by tenfold\"";

/// A connection to one node that no caller ever gets.
pub(super) struct Control {
    client: Client,
    link: Link,
    pub(super) probe: Probe,
    state: Statement,
    committing: Statement,
    shown: Shown,
    history: Option<History>,
    step_timeout: Duration,
}

impl Control {
    pub(super) async fn open(dial: &dyn Dial, config: &Config, step_timeout: Duration) -> Result<Self, PgError> {
        let mut config = config.clone();
        config.application_name(APPLICATION);
        dial::with_setting(&mut config, "lock_timeout", &step_timeout.as_millis().max(1).to_string());
        // So that the lock of a machine that is gone is free soon.
        for (name, seconds) in [("idle", "2"), ("interval", "1"), ("count", "2")] {
            dial::with_setting(&mut config, &format!("tcp_keepalives_{name}"), seconds);
        }
        let (client, mut link, probe) = dial::connect(dial, &config).await?;
        let all = async {
            tokio::join!(biased;
                client.batch_execute(settings::INTRODUCE),
                client.prepare(STATE),
                client.prepare(COMMITTING),
            )
        };
        let (introduced, state, committing) = link.drive(all).await;
        introduced?;
        let (state, committing, shown) = (state?, committing?, Shown::default());
        Ok(Self { client, link, probe, state, committing, shown, history: None, step_timeout })
    }

    pub(super) fn is_open(&mut self) -> bool {
        self.link.is_open()
    }

    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Row>, PgError> {
        Ok(self.link.drive(self.client.query_typed(sql, &[])).await?)
    }

    pub(super) async fn first(&mut self, sql: &str) -> Result<Row, PgError> {
        self.rows(sql).await?.into_iter().next().ok_or(PgError::Malformed)
    }

    pub(super) async fn batch(&mut self, sql: &str) -> Result<(), PgError> {
        Ok(self.link.drive(self.client.batch_execute(sql)).await?)
    }

    pub(super) async fn place(&mut self) -> Result<Place, PgError> {
        let rows = self.link.drive(self.client.query(&self.probe.mark, &[])).await?;
        let place = self.probe.read(rows.first().ok_or(PgError::Malformed)?)?;
        self.probe.learn(place);
        Ok(place)
    }

    /// Where it is and what it is, asked for many times a second: by the short question, if that has an answer.
    async fn look(&mut self) -> Result<(Place, Row), PgError> {
        let mut is_short = true;
        loop {
            let Self { client, link, probe, state, .. } = self;
            let mark = if is_short { probe.short_mark() } else { &probe.mark };
            let all = async { tokio::join!(biased; client.query(mark, &[]), client.query(state, &[])) };
            let (place, state) = link.drive(all).await;
            let (place, state) = (place?, state?.into_iter().next().ok_or(PgError::Malformed)?);
            let row = place.first().ok_or(PgError::Malformed)?;
            let place = if is_short { probe.read_short(row)? } else { Some(probe.read(row)?) };
            if let Some(place) = place {
                probe.learn(place);
                return Ok((place, state));
            }
            is_short = false;
        }
    }

    pub(super) async fn observe(&mut self) -> Result<Observation, PgError> {
        let (place, state) = self.look().await?;
        let text = |at: usize| Ok::<_, PgError>(state.try_get::<_, Option<&str>>(at)?.unwrap_or_default());
        let (is_read_only, is_streaming, has_standbys): (bool, bool, bool) =
            (state.try_get(3)?, state.try_get(4)?, state.try_get(5)?);
        let fenced = settings::parse_fenced(text(1)?)?;
        let is_primary = place.role == Role::Primary;
        let received = match fenced.filter(|_| is_primary) {
            Some(end) => end,
            None if is_primary || is_streaming => place.received.unwrap_or_default().max(place.lsn),
            None => self.end(place).await?,
        };
        let replayed = match (is_primary, has_standbys) {
            (true, true) => {
                let committing = self.link.drive(self.client.query(&self.committing, &[])).await?;
                let found = Committing::read(committing.first().ok_or(PgError::Malformed)?, 0)?;
                self.shown.look(received, found)
            }
            (true, false) => received,
            (false, _) => place.lsn,
        };
        Ok(Observation {
            cluster: self.probe.cluster,
            role: place.role,
            history: self.history(place).await?,
            received,
            replayed,
            writable: is_primary && fenced.is_none() && !is_read_only,
            upstream: settings::parse_node(text(2)?).filter(|_| !is_primary && is_streaming),
            promised: settings::parse_ballot(text(0)?)?,
        })
    }

    /// The timelines of its log. What is known of one never changes.
    pub(super) async fn history(&mut self, place: Place) -> Result<History, PgError> {
        if let Some(history) = self.history.as_ref().filter(|history| history.current() == place.epoch) {
            return Ok(history.clone());
        }
        let history = if place.epoch.0 <= 1 {
            History::new(place.epoch)
        } else {
            let sql = format!("select pg_read_file('{}')", history_file(place.epoch));
            let row = self.first(&sql).await?;
            parse_history(row.try_get(0)?, place.epoch).ok_or(PgError::Malformed)?
        };
        self.history = Some(history.clone());
        Ok(history)
    }

    /// Waits for its turn, and checks that nobody was promised more.
    pub(super) async fn lock(&mut self, ballot: Ballot) -> Result<Settings, PgError> {
        // Whoever stands still with the lock loses it.
        self.batch(&format!("set idle_session_timeout = {}", self.step_timeout.as_millis().max(1))).await?;
        self.rows(LOCK).await?;
        let settings = Settings::of(&self.rows(settings::READ).await?)?;
        if settings.promised()?.is_some_and(|promised| promised > ballot) {
            self.unlock().await?;
            return Err(PgError::Superseded);
        }
        Ok(settings)
    }

    pub(super) async fn unlock(&mut self) -> Result<(), PgError> {
        self.rows(UNLOCK).await?;
        self.hold_lock().await
    }

    /// For as long as it takes.
    pub(super) async fn hold_lock(&mut self) -> Result<(), PgError> {
        self.batch("set idle_session_timeout = 0").await
    }

    /// Writes settings that differ, and has the server take over what its files say.
    pub(super) async fn change(&mut self, settings: &Settings, wanted: &[(&str, &str)]) -> Result<(), PgError> {
        for (name, value) in wanted.iter().filter(|(name, value)| settings.get(name) != *value) {
            self.batch(&settings::alteration(name, value)).await?;
        }
        // Also if nothing differed: whoever wrote it may not have got further.
        self.reload().await
    }

    /// The postmaster has taken the settings over before it tells its sessions: so when this one has, no new one is of before.
    async fn reload(&mut self) -> Result<(), PgError> {
        const LOADED: &str = "select pg_conf_load_time()::text";
        let before: String = self.first(LOADED).await?.try_get(0)?;
        self.rows("select pg_reload_conf()").await?;
        let timeout = self.step_timeout;
        within(timeout, async {
            loop {
                let now: String = self.first(LOADED).await?.try_get(0)?;
                if now != before {
                    return Ok(());
                }
                tokio::time::sleep(POLL / 2).await;
            }
        })
        .await
    }

    pub(super) async fn fence(&mut self, ballot: Ballot) -> Result<Observation, PgError> {
        let settings = self.lock(ballot).await?;
        let received = match self.place().await?.role {
            Role::Primary => self.fence_primary(&settings, ballot).await?,
            Role::Replica => self.fence_replica(&settings, ballot).await?,
        };
        self.unlock().await?;
        let observation = self.observe().await?;
        Ok(Observation { received: observation.received.max(received), ..observation })
    }

    pub(super) async fn fence_primary(&mut self, settings: &Settings, ballot: Ballot) -> Result<Lsn, PgError> {
        if self.first(OVERRIDES).await?.try_get(0)? {
            return Err(PgError::Overridden);
        }
        let promise = settings::print_ballot(ballot);
        let wanted =
            [(settings::PROMISED, promise.as_str()), (settings::READ_ONLY, "on"), (settings::STANDBYS, NOBODY)];
        self.change(settings, &wanted).await?;
        let timeout = self.step_timeout;
        within(timeout, async {
            loop {
                let ended: i64 = self.first(END_SESSIONS).await?.try_get(0)?;
                if ended == 0 {
                    return Ok(());
                }
                tokio::time::sleep(POLL / 2).await;
            }
        })
        .await?;
        if let Some(end) = settings::parse_fenced(settings.get(settings::FENCED))? {
            return Ok(end);
        }
        let end = self.flushed().await?;
        self.change(settings, &[(settings::FENCED, &print_lsn(end))]).await?;
        Ok(end)
    }

    /// The end of the log, once replicas may get all of it.
    async fn flushed(&mut self) -> Result<Lsn, PgError> {
        const UNFLUSHED: &str = "select pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()";
        let end = self.place().await?.lsn;
        if self.first(UNFLUSHED).await?.try_get(0)? {
            // Ends the segment, which flushes what was before.
            self.rows("select pg_switch_wal()").await?;
        }
        Ok(end)
    }

    async fn fence_replica(&mut self, settings: &Settings, ballot: Ballot) -> Result<Lsn, PgError> {
        let promise = settings::print_ballot(ballot);
        let wanted = [(settings::PROMISED, promise.as_str()), (settings::CONNECTION, ""), (settings::UPSTREAM, "")];
        self.change(settings, &wanted).await?;
        // What it has received it replays.
        self.rows("select pg_wal_replay_resume() where pg_is_wal_replay_paused()").await?;
        let timeout = self.step_timeout;
        within(timeout, self.stop_receiving()).await?;
        Ok(within(timeout, self.replay_all()).await?.lsn)
    }

    /// Twice, since one that was being started when the settings changed is not listed at once.
    async fn stop_receiving(&mut self) -> Result<(), PgError> {
        let mut times_gone = 0;
        while times_gone < 2 {
            let receivers: i64 = self.first(RECEIVERS).await?.try_get(0)?;
            times_gone = if receivers == 0 { times_gone + 1 } else { 0 };
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    async fn replay_all(&mut self) -> Result<Place, PgError> {
        const IS_IDLE: &str =
            "select coalesce((select wait_event in ('RecoveryWalStream', 'RecoveryRetrieveRetryInterval')
            from pg_stat_activity where backend_type = 'startup'), true)";
        loop {
            let is_idle: bool = self.first(IS_IDLE).await?.try_get(0)?;
            let place = self.place().await?;
            let is_at_end = is_idle && place.received.is_none_or(|received| place.lsn >= received);
            if is_at_end || self.is_torn(place).await? {
                return Ok(place);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Becomes primary, or takes writes again; `standbys` as in `synchronous_standby_names`, `semi` as this crate's setting.
    pub(super) async fn promote(&mut self, ballot: Ballot, standbys: &str, semi: &str) -> Result<Observation, PgError> {
        let settings = self.lock(ballot).await?;
        if settings.promised()? != Some(ballot) {
            self.unlock().await?;
            return Err(PgError::Superseded);
        }
        let wanted = [
            (settings::STANDBYS, standbys),
            (settings::SEMI, semi),
            (settings::FENCED, ""),
            (settings::UPSTREAM, ""),
            (settings::READ_ONLY, "off"),
        ];
        self.change(&settings, &wanted).await?;
        let place = self.place().await?;
        if place.role == Role::Replica {
            let reign = settings::print_reign(place.epoch, ballot);
            self.change(&settings, &[(settings::REIGN, &reign)]).await?;
            // It waits by itself in long steps.
            self.rows("select pg_promote(false)").await?;
            while self.place().await?.role == Role::Replica {
                tokio::time::sleep(POLL).await;
            }
        }
        self.unlock().await?;
        self.observe().await
    }
}

/// A step of a control call, which must not hold up the others for ever.
pub(super) async fn within<T>(timeout: Duration, step: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
    tokio::time::timeout_at(deadline(timeout), step).await.unwrap_or(Err(PgError::TooSlow(timeout)))
}
