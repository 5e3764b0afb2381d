//! PgBouncer, which gives each transaction the next free connection of a pool.

use std::net::SocketAddr;
use std::path::Path;

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
    database: String,
}

impl PgBouncer {
    /// Starts a PgBouncer for one database, given by URL or name, and waits until it has passed a
    /// connection on.
    ///
    /// # Panics
    ///
    /// If PgBouncer is missing, or does not become ready.
    pub async fn start(cluster: &PostgresCluster, database: &str, options: PoolOptions) -> Self {
        let (port, database) = (ReservedPort::new(), name_of(database).to_owned());
        let server = format!(
            "host={} port={} dbname={database}",
            cluster.keeper.folder().display(),
            cluster.port.number()
        );
        let account = Account::for_servers();
        let folder = account.new_folder();
        let settings = settings(&folder, port.number(), options);
        let file = folder.join("pgbouncer.ini");
        account.write(&file, &format!("[databases]\n{database} = {server}\n{settings}"));
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
        format!("postgres://{USER}@{}/{}", self.address(), self.database)
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
",
        folder.join("users").display()
    )
}
