//! Connections to the database.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use tokio_postgres::config::{SslMode as DriverSslMode, TargetSessionAttrs};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::postgres_fault::PostgresFault;
use super::ssl_mode::SslMode;
use crate::clock::{SystemClock, timeout};
use crate::task;
use crate::transport;

/// How long an attempt to connect may take, for each host. Defaults to 3 s: a server on the same
/// network answers in milliseconds, and a caller waits meanwhile.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long one statement may take. Defaults to 5 s, far more than a batch takes: without the bound,
/// a database that is partitioned away would hold the caller until the system gives the connection
/// up, which takes minutes.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections may be found to have ended before a query fails. Defaults to 8, more than
/// the pool has unless it was made larger.
pub(super) const MAX_LOST: u32 = 8;

/// How long the system sends to a peer that confirms nothing. Defaults to 10 s, so that connections
/// to a partitioned server do not stay.
const UNCONFIRMED: Duration = Duration::from_secs(10);

/// The connections of one store. Commits have a connection of their own, so that credentials that a
/// server has just issued never wait behind claims or reads.
pub(super) struct Connections {
    pub(super) commits: Pool,
    pub(super) claims: Pool,
    pub(super) reads: Pool,
    tls: Tls,
}

/// How connections are encrypted.
#[derive(Clone)]
enum Tls {
    Plain,
    Rustls(MakeRustlsConnect),
}

impl Connections {
    pub(super) fn new(
        mut config: Config,
        mode: SslMode,
        roots: &[CertificateDer<'static>],
        reads: usize,
    ) -> Result<Self, PostgresFault> {
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(UNCONFIRMED);
        config.keepalives(true).keepalives_idle(UNCONFIRMED).keepalives_interval(UNCONFIRMED);
        // Decisions on what a standby shows would be decisions on the past.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("session-warden");
        }
        let tls = match mode {
            SslMode::Disable => {
                config.ssl_mode(DriverSslMode::Disable);
                Tls::Plain
            }
            SslMode::VerifyFull => {
                config.ssl_mode(DriverSslMode::Require);
                let client =
                    transport::verifying_config(roots).map_err(|_| PostgresFault::InvalidRoots)?;
                Tls::Rustls(MakeRustlsConnect::new(client))
            }
        };
        let pool = |size| pool(&config, &tls, size);
        Ok(Self { commits: pool(1)?, claims: pool(1)?, reads: pool(reads)?, tls })
    }

    /// Runs a query that may run twice, on a connection for reads. If the connection has ended, the
    /// query runs on another one: after a restart of the server, all idle connections have ended.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, PostgresFault> {
        let mut lost = 0;
        loop {
            let result = self.get(&self.reads).await?.query(sql, parameters).await;
            match result {
                Err(PostgresFault::ConnectionLost) if lost < MAX_LOST => lost += 1,
                result => return result,
            }
        }
    }

    /// Closes the connections that nobody uses. They may lead to a server that is not the primary
    /// any more.
    pub(super) fn close_idle(&self) {
        for pool in [&self.commits, &self.claims, &self.reads] {
            pool.retain(|_, _| false);
        }
    }

    /// Takes a connection from this pool, or makes one.
    pub(super) async fn get(&self, pool: &Pool) -> Result<Connection, PostgresFault> {
        let connection = pool.get().await?;
        Ok(Connection {
            connection: Some(connection),
            tls: self.tls.clone(),
            broken: false,
            under_way: false,
        })
    }
}

/// A connection that statements use, one after the other. It goes back to its pool, or is closed if
/// a statement failed in a way that the next one would fail too.
pub(super) struct Connection {
    /// Taken only by the drop.
    connection: Option<Object>,
    tls: Tls,
    broken: bool,
    /// A query was sent, and its answer has not come.
    under_way: bool,
}

impl Connection {
    /// The driver's client, until the drop.
    pub(super) fn client(&self) -> Result<&Client, PostgresFault> {
        self.connection.as_deref().map(|client| &**client).ok_or(PostgresFault::Closed)
    }

    /// Runs a query within [`STATEMENT_TIMEOUT`]. `&mut self`, because a connection must never
    /// have two queries under way: PgBouncer gives the server connection to another client when the
    /// answer to the first one has come, although half of the second one may have gone through it.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, PostgresFault> {
        self.under_way = true;
        let answer = self.client()?.query_typed(sql, parameters);
        let answer = timeout(&SystemClock::new(), STATEMENT_TIMEOUT, answer).await;
        // It stays true after a timeout, and if this future is dropped: the statement still runs.
        self.under_way = answer.is_none();
        let result = answer.map_or(Err(PostgresFault::TimedOut), |rows| Ok(rows?));
        self.broken |= result.as_ref().is_err_and(PostgresFault::ends_connection);
        result
    }

    /// Cancels the statement that runs, which may wait for a lock. Nobody waits for its result any
    /// more.
    fn cancel(&self, client: &Client) {
        let (cancel, tls) = (client.cancel_token(), self.tls.clone());
        task::spawn_here(async move {
            let cancelled = async {
                match tls {
                    Tls::Plain => cancel.cancel_query(NoTls).await,
                    Tls::Rustls(tls) => cancel.cancel_query(tls).await,
                }
            };
            drop(timeout(&SystemClock::new(), CONNECT_TIMEOUT, cancelled).await);
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.under_way && !self.broken {
            return;
        }
        // The next user of the connection would wait for the statement of this one.
        if let Some(connection) = self.connection.take() {
            if self.under_way {
                self.cancel(&connection);
            }
            drop(Object::take(connection));
        }
    }
}

fn pool(config: &Config, tls: &Tls, size: usize) -> Result<Pool, PostgresFault> {
    // Without a query when a connection is used again: one that is broken fails its next statement.
    let settings = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = match tls {
        Tls::Plain => Manager::from_config(config.clone(), NoTls, settings),
        Tls::Rustls(tls) => Manager::from_config(config.clone(), tls.clone(), settings),
    };
    let pool = Pool::builder(manager)
        .max_size(size.max(1))
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(STATEMENT_TIMEOUT))
        // Several hosts are tried one after the other.
        .create_timeout(Some(STATEMENT_TIMEOUT));
    pool.build().map_err(|_| PostgresFault::Closed)
}
