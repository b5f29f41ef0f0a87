//! Read-through in the web server's own process: the cache of rung 01, where everything shares one box.

use std::sync::Arc;

use tenfold_lru_cache::ConfigError;

use super::config::CacheConfig;
use super::engine::{UserCache, build};
use crate::database::Reply;
use crate::user::{User, UserId, Versioned};
use crate::users::{Answered, Transfer, Users, Withdrawal};

/// Users behind a cache in the same process.
pub struct InProcess {
    store: Arc<dyn Users>,
    cache: Arc<dyn UserCache>,
}

impl InProcess {
    /// Puts a cache of `config` in front of `store`.
    ///
    /// # Errors
    ///
    /// A configuration that cannot work.
    pub fn new(store: impl Users + 'static, config: &CacheConfig) -> Result<Self, ConfigError> {
        let store: Arc<dyn Users> = Arc::new(store);
        Ok(Self { cache: build(config, Arc::clone(&store))?, store })
    }
}

impl Users for InProcess {
    fn user(&self, id: UserId) -> Reply<'_, Option<(Versioned, Answered)>> {
        self.cache.load(id)
    }

    fn update(&self, user: User) -> Reply<'_, Option<u64>> {
        Box::pin(async move {
            let id = user.id;
            let outcome = self.store.update(user).await;
            self.cache.remove(id);
            outcome
        })
    }

    fn transfer(&self, transfer: Transfer) -> Reply<'_, ()> {
        self.store.transfer(transfer)
    }

    fn withdraw(&self, withdrawal: Withdrawal) -> Reply<'_, ()> {
        self.store.withdraw(withdrawal)
    }
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").field("stats", &self.cache.stats()).finish_non_exhaustive()
    }
}
