//! Connecting: by which address, as whom, and over what.

use std::future::Future;
use std::pin::Pin;

use tokio_postgres::config::Host;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Socket};

use super::PgError;
use super::link::Link;
use super::position::Layout;
use super::probe::{HELLO, MARK, MARK_OF_PRIMARY, MARK_OF_REPLICA, Probe};
use crate::{ClusterId, Node};

type Dialled<'a> = Pin<Box<dyn Future<Output = Result<(Client, Link), tokio_postgres::Error>> + Send + 'a>>;

/// Makes connections, encrypted or not.
pub(super) trait Dial: Send + Sync {
    fn dial<'a>(&'a self, config: &'a Config) -> Dialled<'a>;
}

/// By a connector for TLS.
pub(super) struct By<T>(pub(super) T);

impl<T> Dial for By<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn dial<'a>(&'a self, config: &'a Config) -> Dialled<'a> {
        Box::pin(async move {
            let (client, connection) = config.connect(self.0.clone()).await?;
            Ok((client, Link::new(connection)))
        })
    }
}

/// A connection, and what its server said first.
pub(super) async fn connect(dial: &dyn Dial, config: &Config) -> Result<(Client, Link, Probe), PgError> {
    let (client, mut link) = dial.dial(config).await.map_err(PgError::Connect)?;
    let (hello, mark, of_replica, of_primary) = link
        .drive(async {
            tokio::join!(biased;
                client.query_typed(HELLO, &[]),
                client.prepare(MARK),
                client.prepare(MARK_OF_REPLICA),
                client.prepare(MARK_OF_PRIMARY),
            )
        })
        .await;
    let rows = hello?;
    let row = rows.first().ok_or(PgError::Malformed)?;
    let size = |at: usize| Ok::<_, PgError>(row.try_get::<_, i64>(at)?.max(1).unsigned_abs());
    let (cluster, layout) = (ClusterId(row.try_get::<_, i64>(0)? as u64), Layout { segment: size(1)?, page: size(2)? });
    let probe = Probe::new([mark?, of_replica?, of_primary?], cluster, layout);
    if row.try_get(3)? { Ok((client, link, probe)) } else { Err(PgError::NotMonitor) }
}

/// The address of one server.
pub(super) fn address(node: &Node) -> Result<Config, PgError> {
    let config: Config = node.address().parse().map_err(|error| PgError::Address(Some(error)))?;
    let is_one = config.get_hosts().len().max(config.get_hostaddrs().len()) == 1 && config.get_ports().len() <= 1;
    if is_one { Ok(config) } else { Err(PgError::Address(None)) }
}

/// The same server, as somebody else.
pub(super) fn acting_as(mut config: Config, words: &str) -> Result<Config, PgError> {
    let other: Config = words.parse().map_err(|error| PgError::Address(Some(error)))?;
    if let Some(user) = other.get_user() {
        config.user(user);
    }
    if let Some(password) = other.get_password() {
        config.password(password);
    }
    if let Some(database) = other.get_dbname() {
        config.dbname(database);
    }
    Ok(config)
}

/// One more setting for the sessions of these connections.
pub(super) fn with_setting(config: &mut Config, name: &str, value: &str) {
    let others = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
    config.options(format!("{others}-c {name}={value}"));
}

/// The address in the form that libpq reads, with more words behind.
pub(super) fn connection_string(config: &Config, more: &str) -> String {
    let mut words = Vec::new();
    let mut push = |name: &str, value: &str| {
        words.push(format!("{name}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
    };
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => push("host", host),
        #[cfg(unix)]
        Some(Host::Unix(path)) => push("host", &path.to_string_lossy()),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().first() {
        push("hostaddr", &address.to_string());
    }
    if let Some(port) = config.get_ports().first() {
        push("port", &port.to_string());
    }
    if let Some(user) = config.get_user() {
        push("user", user);
    }
    if let Some(password) = config.get_password() {
        push("password", &String::from_utf8_lossy(password));
    }
    words.extend((!more.is_empty()).then(|| more.to_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    #[test]
    fn an_address_is_printed_as_libpq_reads_it() {
        let node = Node::new(NodeId(1), "postgres://ada:it's%5C@db.example:5433/app?options=-c%20a%3Db");
        let mut config = acting_as(address(&node).unwrap(), "user=admin").unwrap();
        assert_eq!(
            connection_string(&config, "sslmode=require"),
            r"host='db.example' port='5433' user='admin' password='it\'s\\' sslmode=require"
        );
        with_setting(&mut config, "c", "d");
        assert_eq!(config.get_options(), Some("-c a=b -c c=d"));
    }

    #[test]
    fn an_address_is_of_one_server() {
        for text in ["host=a,b user=x", "host=a port=1,2", "user=x", "no address"] {
            assert!(matches!(address(&Node::new(NodeId(0), text)), Err(PgError::Address(_))), "{text}");
        }
        assert!(address(&Node::new(NodeId(0), "hostaddr=127.0.0.1 user=x")).is_ok());
    }
}
