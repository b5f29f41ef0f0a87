//! Configuration from files.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tenfold_replication::{
    Config, DetectConfig, FailoverConfig, HedgeConfig, Mode, Node, NodeId, PoolConfig, WhenBehind,
};

use super::ms;

fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> String {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value);
    text
}

#[test]
fn what_a_file_does_not_say_is_the_default() {
    let text = r#"{"observe_interval": "20ms", "max_staleness": "2s", "when_behind": "refuse", "hedge": null,
        "pool": {"max_connections": 4}, "zone_cost": 1}"#;
    let expected = Config {
        observe_interval: ms(20),
        max_staleness: Some(ms(2_000)),
        when_behind: WhenBehind::Refuse,
        hedge: None,
        pool: PoolConfig { max_connections: 4, ..PoolConfig::default() },
        zone_cost: ms(1_000),
        ..Config::default()
    };
    assert_eq!(serde_json::from_str::<Config>(text).unwrap(), expected);
    assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
    let unknown = serde_json::from_str::<Config>(r#"{"observe_intervall": "20ms"}"#).unwrap_err();
    assert!(unknown.to_string().contains("observe_intervall"), "{unknown}");
    assert!(serde_json::from_str::<Config>(r#"{"hedge": {"percents": 1}}"#).is_err());
}

#[test]
fn what_is_written_reads_back() {
    comes_back(&Config::default());
    comes_back(&Config { max_staleness: Some(ms(3)), hedge: Some(HedgeConfig::default()), ..Config::default() });
    comes_back(&DetectConfig::default());
    comes_back(&FailoverConfig::default());
    #[cfg(feature = "sqlite")]
    comes_back(&tenfold_replication::driver::sqlite::SqliteConfig::default());
    #[cfg(feature = "postgres")]
    {
        use tenfold_replication::driver::postgres::{PgConfig, SynchronousCommit};
        let level = Some(SynchronousCommit::RemoteWrite);
        let text = comes_back(&PgConfig { synchronous_commit: level, ..PgConfig::default() });
        assert!(text.contains("\"remote-write\""), "{text}");
    }
    assert_eq!(comes_back(&Mode::Asynchronous), "\"asynchronous\"");
    assert_eq!(comes_back(&Mode::quorum(2)), r#"{"quorum":{"replicas":2}}"#);
    assert_eq!(comes_back(&Mode::SemiSynchronous { timeout: ms(250) }), r#"{"semi-synchronous":{"timeout":"250ms"}}"#);
    assert!(serde_json::from_str::<Mode>(r#"{"quorum":{"replicas":0}}"#).is_err());
    let node = Node::new(NodeId(3), "host=db3").with_zone("a");
    assert_eq!(comes_back(&node), r#"{"id":3,"address":"host=db3","zone":"a"}"#);
    comes_back(&Node::new(NodeId(4), "host=db4"));
}
