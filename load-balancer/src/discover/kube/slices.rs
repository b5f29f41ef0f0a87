//! From EndpointSlices to changes: pure.
//!
//! A service has several slices, of which each names some of its endpoints; while the cluster moves an endpoint from
//! one to another, both name it. So the backends are always those of all slices together.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::{Backend, Change, Zone};

#[cfg(test)]
mod tests;

/// `discovery.k8s.io/v1` EndpointSlice, as far as it matters here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Slice {
    pub(crate) metadata: Metadata,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
    zone: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    /// It ends, and still serves.
    Draining,
    Active,
}

impl Conditions {
    /// `None`: it does not serve. What is unknown of readiness counts as ready, as the API's documentation asks.
    fn judge(self) -> Option<Condition> {
        let ready = self.ready.unwrap_or(true);
        match (self.terminating.unwrap_or(false), self.serving.unwrap_or(ready)) {
            (false, _) => ready.then_some(Condition::Active),
            (true, true) => Some(Condition::Draining),
            (true, false) => None,
        }
    }
}

/// The endpoints of a service, and what was reported of them.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    slices: BTreeMap<String, Slice>,
    shown: Option<BTreeMap<SocketAddr, Listed>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    condition: Condition,
    zone: Option<String>,
}

impl Slices {
    /// These are all.
    pub(crate) fn replace(&mut self, slices: Vec<Slice>) {
        self.slices = slices.into_iter().map(|slice| (slice.metadata.name.clone(), slice)).collect();
    }

    pub(crate) fn put(&mut self, slice: Slice) {
        self.slices.insert(slice.metadata.name.clone(), slice);
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.slices.remove(name);
    }

    pub(crate) fn len(&self) -> usize {
        self.slices.len()
    }

    /// The next [`changes`](Self::changes) say everything.
    pub(crate) fn forget_shown(&mut self) {
        self.shown = None;
    }

    /// What to report so that the balancer knows what the slices say. New backends first, so that there are never fewer
    /// than before or after.
    pub(crate) fn changes(&mut self, port: Option<&str>) -> VecDeque<Change> {
        let listed = self.listed(port);
        let is_draining = |listed: &Listed| listed.condition == Condition::Draining;
        let mut changes = VecDeque::new();
        match &self.shown {
            Some(shown) if !listed.is_empty() || shown.is_empty() => {
                let news = || listed.iter().filter(|(address, now)| shown.get(address) != Some(now));
                changes.extend(
                    news().filter(|(_, now)| !is_draining(now)).map(|(at, now)| Change::Insert(backend(*at, now))),
                );
                changes.extend(
                    news().filter(|(_, now)| is_draining(now)).map(|(at, now)| Change::Insert(backend(*at, now))),
                );
                let gone = shown.iter().filter(|(address, _)| !listed.contains_key(address));
                changes.extend(gone.map(|(at, before)| Change::Remove(backend(*at, before).id())));
            }
            _ => {
                changes.push_back(Change::Replace(listed.iter().map(|(at, now)| backend(*at, now)).collect()));
            }
        }
        self.shown = Some(listed);
        changes
    }

    fn listed(&self, port: Option<&str>) -> BTreeMap<SocketAddr, Listed> {
        let mut all: BTreeMap<SocketAddr, Listed> = BTreeMap::new();
        for slice in self.slices.values() {
            let Some(port) = slice.port(port) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let Some((address, listed)) = endpoint.listed(port) else { continue };
                let merged = all.entry(address).or_insert_with(|| listed.clone());
                merged.condition = merged.condition.max(listed.condition);
                merged.zone = merged.zone.take().or(listed.zone);
            }
        }
        // As kube-proxy does: where all that serve are about to end, they serve until then.
        if all.values().all(|listed| listed.condition == Condition::Draining) {
            all.values_mut().for_each(|listed| listed.condition = Condition::Active);
        }
        all
    }
}

impl Slice {
    fn port(&self, name: Option<&str>) -> Option<u16> {
        let mut ports = self.ports.iter().flatten();
        let port = ports.find(|port| name.is_none_or(|name| port.name.as_deref() == Some(name)))?;
        port.port.filter(|port| *port != 0)
    }
}

impl Endpoint {
    /// An endpoint's addresses are one and the same; only the first is meant to be used. Names (`FQDN`) are passed over.
    fn listed(&self, port: u16) -> Option<(SocketAddr, Listed)> {
        let ip: IpAddr = self.addresses.first()?.parse().ok()?;
        let condition = self.conditions.unwrap_or_default().judge()?;
        Some((SocketAddr::new(ip, port), Listed { condition, zone: self.zone.clone() }))
    }
}

fn backend(address: SocketAddr, listed: &Listed) -> Backend {
    let mut backend = Backend::new(address);
    if let Some(zone) = &listed.zone {
        backend = backend.with_zone(Zone::new(zone));
    }
    match listed.condition {
        Condition::Active => backend,
        // From the beginning: one that ends takes no request in between.
        Condition::Draining => backend.with_draining(),
    }
}
