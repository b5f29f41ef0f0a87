//! The cluster through its public face, on simulated nodes.

mod failovers;
mod faults;
#[cfg(feature = "serde")]
mod files;
mod moves;
mod reads;
mod sessions;
mod tables;
mod writes;

use std::time::Duration;

use tenfold_replication::sim::{Sim, SimConfig, SimDriver};
use tenfold_replication::{Cluster, Config};

/// A cluster of simulated nodes, watched.
struct Rig {
    sim: Sim,
    cluster: Cluster<SimDriver>,
    driver: SimDriver,
}

async fn rig(sim: SimConfig, config: Config) -> Rig {
    let mode = sim.mode;
    let sim = Sim::new(sim);
    let driver = sim.driver();
    let builder = Cluster::builder(driver.clone()).nodes(sim.nodes()).mode(mode).config(config).seed(1);
    let cluster = builder.build().unwrap();
    tokio::spawn(cluster.clone().drive());
    cluster.ready(ms(1000)).await.unwrap();
    Rig { sim, cluster, driver }
}

async fn three() -> Rig {
    rig(SimConfig::default(), Config::default()).await
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
