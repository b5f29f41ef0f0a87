//! Making a node a replica: by its settings where its log is a part of the primary's, else by rewinding it.

use super::control::Control;
use super::driver::PgDriver;
use super::probe::Place;
use super::settings::{self, Settings};
use super::{PgError, Rewind};
use crate::driver::{Ballot, Rejoined};
use crate::{History, Lsn, Node, NodeId, Position, Role, Standing};

/// What the primary keeps for a replica: the log that it has not received yet.
fn slot(replica: NodeId) -> String {
    format!("tenfold_{replica}")
}

/// What a node is told that follows.
struct Upstream {
    node: NodeId,
    connection: String,
    slot: String,
    history: History,
    reign: String,
}

impl Upstream {
    fn settings<'a>(&'a self, promise: &'a str, id: &'a str) -> [(&'static str, &'a str); 5] {
        [
            // Before it can receive anything of that reign.
            (settings::REIGN, &self.reign),
            (settings::PROMISED, promise),
            (settings::UPSTREAM, id),
            (settings::SLOT, &self.slot),
            (settings::CONNECTION, &self.connection),
        ]
    }
}

impl PgDriver {
    pub(super) async fn make_follow(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<(), PgError> {
        // First: a primary that hangs must not hold up who fences the node.
        let (upstream, known) = self.upstream(node, primary).await?;
        let mut control = self.control(node).await?;
        let settings = control.lock(ballot).await?;
        let place = control.place().await?;
        if place.role == Role::Primary {
            return Err(PgError::NotAReplica);
        }
        check_same_cluster(&control, &upstream)?;
        if control.is_of_namesake(place, &settings, &known).await? {
            control.unlock().await?;
            return self.make_rejoin(node, primary, ballot).await.map(|_| ());
        }
        control.prepare_to_part(&known.history).await?;
        control.follow(&settings, &known, ballot).await?;
        control.unlock().await?;
        self.keep(node, control);
        self.keep(primary, upstream);
        Ok(())
    }

    /// The primary, which keeps its log for this replica from now on.
    async fn upstream(&self, node: &Node, primary: &Node) -> Result<(Control, Upstream), PgError> {
        let mut control = self.control(primary).await?;
        let place = control.place().await?;
        if node.id() == primary.id() || place.role != Role::Primary {
            return Err(PgError::NoPrimaryThere);
        }
        let slot = slot(node.id());
        let create = format!(
            "select pg_create_physical_replication_slot('{slot}', true)
             where not exists(select from pg_replication_slots where slot_name = '{slot}')"
        );
        control.rows(&create).await?;
        let connection = self.replication_string(primary, node.id())?;
        let history = control.history(place).await?;
        let reign = Settings::of(&control.rows(settings::READ).await?)?.get(settings::REIGN).to_owned();
        Ok((control, Upstream { node: primary.id(), connection, slot, history, reign }))
    }

    pub(super) async fn make_rejoin(&self, node: &Node, primary: &Node, ballot: Ballot) -> Result<Rejoined, PgError> {
        let (mut upstream, known) = self.upstream(node, primary).await?;
        upstream.settle_timeline().await?;
        let mut control = self.control(node).await?;
        let settings = control.lock(ballot).await?;
        check_same_cluster(&control, &upstream)?;
        self.keep(primary, upstream);
        let place = control.place().await?;
        let end = match place.role {
            Role::Primary => control.fence_primary(&settings, ballot).await?,
            Role::Replica => control.end(place).await?,
        };
        let is_of_namesake = control.is_of_namesake(place, &settings, &known).await?;
        let discarded = match known.history.standing(Position::new(place.epoch, end)) {
            // The two began where the older log was left, or its own did further on.
            Standing::Kept if is_of_namesake => Some((known.began_at(), end)),
            Standing::Lost { kept } => Some((kept.lsn, end)),
            Standing::Kept => None,
            Standing::Unknown => return Err(PgError::NoPrimaryThere),
        };
        if place.role == Role::Replica && discarded.is_none() {
            control.prepare_to_part(&known.history).await?;
            control.follow(&settings, &known, ballot).await?;
            control.unlock().await?;
        } else {
            control.hold_lock().await?;
            self.rewind(node, primary, known, ballot, is_of_namesake).await?;
            control = self.control(node).await?;
            control.forget_replicas().await?;
        }
        self.keep(node, control);
        Ok(Rejoined { discarded })
    }

    /// The lock on the node ends when its server does: nobody promises anything in between.
    async fn rewind(
        &self,
        node: &Node,
        primary: &Node,
        known: Upstream,
        ballot: Ballot,
        is_of_namesake: bool,
    ) -> Result<(), PgError> {
        let server = self.shared.server.clone().ok_or(PgError::NoServer)?;
        let (promise, id) = (settings::print_ballot(ballot), known.node.0.to_string());
        let own = [(settings::FENCED, ""), (settings::READ_ONLY, "off"), (settings::STANDBYS, "")];
        let all = known.settings(&promise, &id).into_iter().chain(own);
        let source = super::dial::connection_string(&self.control_config(primary)?, "dbname=postgres");
        let rewind = Rewind {
            node: node.clone(),
            source,
            copy_from: is_of_namesake.then(|| known.connection.clone()),
            settings: all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        server.rewind(&rewind).await
    }
}

impl Upstream {
    /// Where its timeline left the one before.
    fn began_at(&self) -> Lsn {
        self.history.switches().last().map_or(Lsn(0), |switch| switch.at)
    }
}

fn check_same_cluster(one: &Control, other: &Control) -> Result<(), PgError> {
    if one.probe.cluster == other.probe.cluster { Ok(()) } else { Err(PgError::NoPrimaryThere) }
}

impl Control {
    /// Whether its timeline has the number of the primary's and is another one: servers take the number that follows those
    /// they have heard of. Their programs see no difference.
    async fn is_of_namesake(&mut self, place: Place, own: &Settings, known: &Upstream) -> Result<bool, PgError> {
        if place.epoch != known.history.current() {
            return Ok(false);
        }
        let is_other = settings::are_other_reigns(own.get(settings::REIGN), &known.reign, place.epoch);
        Ok(is_other || self.history(place).await? != known.history)
    }

    /// The node is locked, and a replica.
    async fn follow(&mut self, settings: &Settings, known: &Upstream, ballot: Ballot) -> Result<(), PgError> {
        let (promise, id) = (settings::print_ballot(ballot), known.node.0.to_string());
        self.change(settings, &known.settings(&promise, &id)).await?;
        self.forget_replicas().await
    }

    /// A rewind looks at the checkpoint of its source to see that the timelines differ. After a promotion that is of the
    /// timeline before until the next one, and the rewind would leave everything as it is.
    async fn settle_timeline(&mut self) -> Result<(), PgError> {
        const OF_CHECKPOINT: &str = "select timeline_id from pg_control_checkpoint()";
        let of_checkpoint: i32 = self.first(OF_CHECKPOINT).await?.try_get(0)?;
        if u64::try_from(of_checkpoint).ok() != Some(self.place().await?.epoch.0) {
            self.batch("checkpoint").await?;
        }
        Ok(())
    }

    /// What it kept for its replicas when it was a primary, it would keep for ever.
    async fn forget_replicas(&mut self) -> Result<(), PgError> {
        const FORGET: &str = "select pg_drop_replication_slot(slot_name) from pg_replication_slots
            where slot_type = 'physical' and not active and slot_name like 'tenfold\\_n%'";
        self.rows(FORGET).await.map(|_| ())
    }
}
