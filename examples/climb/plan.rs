//! `cargo climb plan`: what a number of daily users asks of each tier, by arithmetic and queueing theory alone.

use std::time::Duration;

use tenfold_rig::{Cost, Mmc, Network, Promise, Service};

/// The share of reads that the caches of rung 06 answer in this arithmetic.
const HIT_RATIO: f64 = 0.8;

/// The text for `daily_users`.
pub(crate) fn plan(cost: &Cost, daily_users: f64) -> String {
    let rate = cost.peak_rate(daily_users);
    let one = |service: Service| {
        let node = Network::tandem([Mmc::new(service.slots, service.mean())]);
        node.capacity(Duration::from_secs_f64(Promise::default().p99_ms / 1e3))
    };
    let (web, database) = (one(cost.web), one(cost.database));
    let nodes = |rate: f64, capacity: f64| (rate / capacity).ceil();
    let behind = rate * (1.0 - HIT_RATIO);
    format!(
        "{daily_users:.0} daily users x {} requests / 86400 s x peak {} = {rate:.0} requests/s\n\
         one web server ({}) carries {web:.0}/s: {:.0} web servers\n\
         one database server ({}) carries {database:.0}/s: {:.0} without a cache\n\
         a cache that answers {:.0} % of the reads leaves {behind:.0}/s: {:.0} database servers\n\
         arithmetic and queueing theory, reads only, p99 within {:.0} ms a tier; nothing was measured\n",
        cost.requests_per_user_day,
        cost.peak_factor,
        cost.web,
        nodes(rate, web),
        cost.database,
        nodes(rate, database),
        HIT_RATIO * 100.0,
        nodes(behind, database),
        Promise::default().p99_ms,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_users_are_694_requests_a_second() {
        let text = plan(&Cost::modelled(), 1e6);
        assert!(text.contains("= 694 requests/s"), "{text}");
        assert!(text.contains("1 web servers") && text.contains("2 without a cache"), "{text}");
    }
}
