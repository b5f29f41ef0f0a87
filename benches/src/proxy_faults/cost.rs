//! Who used the processors during a run: the proxy, the load with its backends, or somebody else.

use std::io;
use std::time::Duration;

use nix::unistd::getpgrp;

use super::fleet::Fleet;
use super::proxy::Proxy;
use super::usage::{of_group, of_machine};

/// Processor time and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Processor time of the proxy's processes.
    pub proxy_cpu: Duration,
    /// The proxy's resident memory; zero without a proxy.
    pub resident_bytes: u64,
    /// Processor time of the load and of the backends.
    pub bench_cpu: Duration,
    /// Processor time of everybody else on the machine.
    pub others_cpu: Duration,
}

impl Cost {
    /// All that was used since the machine was started by those that run now.
    ///
    /// # Errors
    ///
    /// What reading `/proc` gave.
    pub fn so_far(fleet: &Fleet, proxy: Option<&Proxy>) -> io::Result<Self> {
        let mut bench_cpu = of_group(getpgrp())?.cpu;
        for group in fleet.groups() {
            bench_cpu += of_group(group)?.cpu;
        }
        let proxy = proxy.map(|proxy| of_group(proxy.group())).transpose()?.unwrap_or_default();
        let others_cpu = of_machine()?.saturating_sub(bench_cpu + proxy.cpu);
        Ok(Self { proxy_cpu: proxy.cpu, resident_bytes: proxy.resident_bytes, bench_cpu, others_cpu })
    }

    /// What was used since then, and the memory now. A backend that was replaced meanwhile is not counted in full.
    #[must_use]
    pub fn since(&self, then: &Self) -> Self {
        Self {
            proxy_cpu: self.proxy_cpu.saturating_sub(then.proxy_cpu),
            resident_bytes: self.resident_bytes,
            bench_cpu: self.bench_cpu.saturating_sub(then.bench_cpu),
            others_cpu: self.others_cpu.saturating_sub(then.others_cpu),
        }
    }
}
