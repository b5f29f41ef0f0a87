//! What may cross threads does, by the compiler's word.

use tenfold_cache_core::{
    AsyncReadThrough, Builder, Cache, ConfigError, Entry, FillError, InsertError, Iter, LeaseId, LeaseVoid, LoadError,
    Lookup, ManualClock, ReadThrough, RefreshJob, RefreshTask, StatsSnapshot, unsync,
};

use crate::recency::VecLru;

type Store = Cache<u64, String, VecLru>;
type Loader = fn(&u64) -> Result<Option<String>, std::fmt::Error>;

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_shared<T: Send + Sync + 'static>() {}

fn send<T: Send>(value: T) -> T {
    value
}

#[test]
fn handles_and_answers_cross_threads() {
    is_shared::<Store>();
    is_shared::<ReadThrough<u64, String, VecLru, Loader>>();
    is_shared::<ManualClock>();
    is_shared::<LeaseId>();
    is_shared::<Lookup<String>>();
    is_shared::<LoadError<std::fmt::Error>>();
    is_shared::<InsertError<u64, String>>();
    is_shared::<FillError<String>>();
    is_shared::<LeaseVoid>();
    is_shared::<ConfigError>();
    is_shared::<StatsSnapshot>();
    is_shared::<unsync::Cache<u64, String, VecLru>>();
    is_send::<Builder<u64, String, VecLru>>();
    is_send::<Entry<'_, u64, String, VecLru>>();
    is_send::<Iter<'_, u64, String, VecLru>>();
    is_sync::<Iter<'_, u64, String, VecLru>>();
    is_send::<RefreshJob>();
    is_send::<RefreshTask>();
}

#[test]
fn futures_may_be_spawned() {
    let cache: Store = Cache::new(10);
    let load = |_: u64| async { Ok::<_, std::fmt::Error>("value".to_owned()) };
    drop(send(cache.get_or_load_async(1, load)));
    drop(send(cache.refresh_async(1, load)));
    drop(send(cache.get_or_load_optional_async(1, |_| async { Ok::<_, std::fmt::Error>(None) })));
    drop(send(cache.get_or_load_all_async([1, 2], |_| async { Ok::<_, std::fmt::Error>(Vec::new()) })));
    let through = AsyncReadThrough::new(cache, |_: u64| async { Ok::<_, std::fmt::Error>(None) });
    drop(send(through.get(&1)));
    drop(send(through.get_all([1, 2])));
    drop(send(through.refresh(&1)));
    let through = send(through);
    is_same(&through, &through.clone());
}

/// A loader that is a closure has no name to write down.
fn is_same<T: Send + Sync>(_: &T, _: &T) {}
