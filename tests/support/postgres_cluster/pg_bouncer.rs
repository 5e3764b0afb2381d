//! PgBouncer, which gives each transaction the next free connection of a pool.

use std::net::SocketAddr;
use std::path::Path;

use tokio::sync::OnceCell;

use super::keeper::Keeper;
use super::programs::{self, Account};
use super::{PostgresCluster, ReservedPort, SUPERUSER, USER, connect, name_of, until_ready};

/// How a pool is set up.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// How many connections to the server the pool has.
    pub default_pool_size: u32,
    /// How many connections of clients it takes.
    pub max_client_conn: u32,
}

impl Default for PoolOptions {
    /// PgBouncer's own.
    fn default() -> Self {
        Self { default_pool_size: 20, max_client_conn: 100 }
    }
}

/// A running PgBouncer in transaction mode, which ends with this value. It asks for no password.
pub struct PgBouncer {
    keeper: Keeper,
    port: ReservedPort,
    /// The database of [`url`](PgBouncer::url).
    database: String,
}

impl PgBouncer {
    /// One PgBouncer for all databases of [`PostgresCluster::shared`], with two connections to each.
    /// It ends with the process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PgBouncer> = OnceCell::const_new();
        let options = PoolOptions { default_pool_size: 2, max_client_conn: 1_000 };
        SHARED
            .get_or_init(async || {
                let cluster = PostgresCluster::shared().await;
                Self::run(cluster, ("*", SUPERUSER), options).await
            })
            .await
    }

    /// Starts a PgBouncer for one database, given by URL or name, and waits until it has passed a
    /// connection on.
    ///
    /// # Panics
    ///
    /// If PgBouncer is missing, or does not become ready.
    pub async fn start(cluster: &PostgresCluster, database: &str, options: PoolOptions) -> Self {
        let database = name_of(database);
        Self::run(cluster, (database, database), options).await
    }

    /// A PgBouncer for the databases of this pattern, of which it is tried with one.
    async fn run(
        cluster: &PostgresCluster,
        (pattern, tried): (&str, &str),
        options: PoolOptions,
    ) -> Self {
        let (port, database) = (ReservedPort::new(), tried.to_owned());
        let server =
            format!("host={} port={}", cluster.keeper.folder().display(), cluster.port.number());
        let account = Account::for_servers();
        let folder = account.new_folder();
        let settings = settings(&folder, port.number(), options);
        let file = folder.join("pgbouncer.ini");
        account.write(&file, &format!("[databases]\n{pattern} = {server}\n{settings}"));
        let users = format!("\"{USER}\" \"\"\n\"{SUPERUSER}\" \"\"\n");
        account.write(&folder.join("users"), &users);
        let program = programs::administrators("pgbouncer");
        let command = [program, file].map(|path| path.display().to_string());
        let pool = Self { keeper: Keeper::new(&account, folder, &command, "TERM"), port, database };
        pool.start_again().await;
        pool
    }

    /// The URL of the database through the pool.
    pub fn url(&self) -> String {
        self.url_of(&self.database)
    }

    /// The URL of another database through the pool, given by URL or name.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}@{}/{}", self.address(), name_of(database))
    }

    /// Where PgBouncer listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Kills PgBouncer with `SIGKILL`. Its port refuses connections from now on.
    pub async fn kill_9(&self) {
        self.keeper.end("KILL").await;
    }

    /// Starts PgBouncer after it ended, on the same port, and waits until it has passed a
    /// connection on.
    pub async fn start_again(&self) {
        self.keeper.start().await;
        let url = self.url();
        until_ready(&self.keeper, || connect(&url)).await;
    }

    /// What PgBouncer has logged since it was first started.
    pub fn log(&self) -> String {
        self.keeper.log()
    }
}

fn settings(folder: &Path, port: u16, options: PoolOptions) -> String {
    let PoolOptions { default_pool_size, max_client_conn } = options;
    format!(
        "[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {}
admin_users = {SUPERUSER}
pool_mode = transaction
default_pool_size = {default_pool_size}
max_client_conn = {max_client_conn}
server_idle_timeout = 10
server_login_retry = 1
",
        folder.join("users").display()
    )
}
