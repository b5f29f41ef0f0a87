//! What runs inside a child process: one role, one ready line, one way to stop.
//!
//! A rung is one binary. Its parent starts the same binary again for every tier; [`run`] looks whether it is such a
//! child and then runs the role that was asked for, else it runs the parent. The two talk by one JSON line on the
//! child's stdout, which says at which address the role serves, or why it does not.
//!
//! # No orphans
//! A child asks the kernel to be killed when its parent dies (`PR_SET_PDEATHSIG`), whatever the parent died of. Between
//! the fork and that request the parent may already be gone, so the child then compares its parent's id with the one it
//! was told, and leaves if they differ.

mod entry;
mod handshake;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use entry::run;

use handshake::Failed;
pub(crate) use handshake::{FailureKind, Handshake, Spec};

/// How a role's function or a parent ends; any error is printed with its sources.
pub type RoleResult<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

type RoleFuture = Pin<Box<dyn Future<Output = Result<(), Failed>>>>;
type RoleFn = Box<dyn Fn(Started) -> RoleFuture + Send + Sync>;

/// The roles of a binary, by name.
#[derive(Default)]
pub struct Roles {
    by_name: BTreeMap<&'static str, RoleFn>,
}

impl Roles {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the role `name`, whose function gets its configuration as `C` and serves until it is told to stop.
    ///
    /// A later role of the same name replaces the earlier one.
    #[must_use]
    pub fn add<C, F, Fut>(mut self, name: &'static str, serve: F) -> Self
    where
        C: DeserializeOwned + 'static,
        F: Fn(Role<C>) -> Fut + Send + Sync + Clone + 'static,
        Fut: Future<Output = RoleResult> + 'static,
    {
        let role: RoleFn = Box::new(move |started| {
            let serve = serve.clone();
            Box::pin(async move {
                let role = started.into_role::<C>()?;
                serve(role).await.map_err(|e| Failed::new(FailureKind::Role, chain(&*e)))
            })
        });
        self.by_name.insert(name, role);
        self
    }

    /// Takes over every role of `other`; on a clash of names, `other`'s wins.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.by_name.extend(other.by_name);
        self
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.by_name.keys().copied()
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// What a role's function is given.
#[derive(Debug)]
pub struct Role<C> {
    /// The node's own name, such as `web-2`.
    pub name: String,
    /// The role's name, such as `web`.
    pub role: String,
    /// The configuration the parent gave.
    pub config: C,
    addr: SocketAddr,
    listener: Option<TcpListener>,
    announced: BTreeMap<String, SocketAddr>,
    stop: Stop,
}

/// Misuse of [`Role::ready`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadyError {
    /// The listener was handed out before.
    #[error("the role has said that it is ready before")]
    Twice,
    /// The parent no longer reads.
    #[error("the ready line could not be written")]
    Unheard(#[source] io::Error),
}

impl<C> Role<C> {
    /// The address of the node's listener.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Adds a second address to the ready line, such as that of a DNS socket; the parent finds it by `label`.
    pub fn announce(&mut self, label: impl Into<String>, addr: SocketAddr) {
        self.announced.insert(label.into(), addr);
    }

    /// Hands out the bound listener and tells the parent that the node serves. Call it when all set-up is done.
    ///
    /// # Errors
    /// A second call, or a parent that has gone.
    pub fn ready(&mut self) -> Result<TcpListener, ReadyError> {
        let listener = self.listener.take().ok_or(ReadyError::Twice)?;
        let line = Handshake::Ready { addr: self.addr, announced: std::mem::take(&mut self.announced) };
        line.print().map_err(ReadyError::Unheard)?;
        Ok(listener)
    }

    /// Resolves when the node is asked to stop; for `axum::serve(..).with_graceful_shutdown(role.stop().wait())`.
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }
}

/// Tells that the node was asked to stop (SIGTERM).
#[derive(Clone, Debug)]
pub struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// Returns when the node is asked to stop, at once if it was already.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(mut self) {
        // The sender lives in the process's main task; if it is gone, so is the reason to go on.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    /// Whether the node was asked to stop.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

struct Started {
    spec: Spec,
    listener: TcpListener,
    addr: SocketAddr,
    stop: Stop,
}

impl Started {
    fn into_role<C: DeserializeOwned>(self) -> Result<Role<C>, Failed> {
        let config =
            serde_json::from_value(self.spec.config).map_err(|e| Failed::new(FailureKind::Config, e.to_string()))?;
        Ok(Role {
            name: self.spec.name,
            role: self.spec.role,
            config,
            addr: self.addr,
            listener: Some(self.listener),
            announced: BTreeMap::new(),
            stop: self.stop,
        })
    }
}

/// An error and its sources in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        line.push_str(": ");
        line.push_str(&inner.to_string());
        source = inner.source();
    }
    line
}
