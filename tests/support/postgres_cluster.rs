//! A PostgreSQL of the test's own on loopback, what may stand between it and a client, and the ways
//! in which these fail.
//!
//! Each server ends with its value, and with the process of the test however that ends.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test ends where a server of its own fails, and not each program here uses everything"
)]

#[path = "postgres_cluster/keeper.rs"]
mod keeper;
#[path = "postgres_cluster/messages.rs"]
mod messages;
#[path = "postgres_cluster/pg_bouncer.rs"]
mod pg_bouncer;
#[path = "postgres_cluster/programs.rs"]
mod programs;
#[path = "postgres_cluster/server_certificate.rs"]
mod server_certificate;
#[path = "postgres_cluster/stoppable_proxy.rs"]
mod stoppable_proxy;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use keeper::Keeper;
pub use pg_bouncer::{PgBouncer, PoolOptions};
use programs::Account;
use server_certificate::ServerCertificate;
pub use stoppable_proxy::StoppableProxy;

/// Owns each database of a test, and is no superuser, as the user of a service is none.
pub const USER: &str = "service";

/// The names of a certificate for whoever connects by a URL of these tests.
pub const LOOPBACK_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

const SUPERUSER: &str = "postgres";

/// How long a server may take until it takes connections, a recovery included.
const START: Duration = Duration::from_secs(60);

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Whether a commit waits for the disk. A kill of the server loses nothing either way.
    pub fsync: bool,
    /// Of them, PostgreSQL keeps 3 for superusers.
    pub max_connections: u32,
    /// The password of [`USER`], by SCRAM; none is asked for if this is `None`.
    pub password: Option<String>,
    /// The names in the certificate of a server that takes nothing but TLS, usually
    /// [`LOOPBACK_NAMES`]. There is no TLS if this is `None`.
    pub tls_names: Option<Vec<String>>,
    /// More settings, as `postgresql.conf` has them.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            max_connections: 100,
            password: None,
            tls_names: None,
            settings: Vec::new(),
        }
    }
}

/// A running PostgreSQL with its data in a folder of its own. Both end with this value.
pub struct PostgresCluster {
    keeper: Keeper,
    port: ReservedPort,
    options: ClusterOptions,
    certificate: Option<ServerCertificate>,
    databases: AtomicUsize,
}

impl PostgresCluster {
    /// One cluster for all tests of this process that do not stop it. It ends with the process.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PostgresCluster> = OnceCell::const_new();
        let options = ClusterOptions { max_connections: 300, ..ClusterOptions::default() };
        SHARED.get_or_init(|| Self::start_with(options)).await
    }

    /// Starts a cluster and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is missing, or the cluster does not become ready. A missing server is a
    /// failure, never a test left out.
    pub async fn start() -> Self {
        Self::start_with(ClusterOptions::default()).await
    }

    /// The same, set up otherwise.
    pub async fn start_with(options: ClusterOptions) -> Self {
        let port = ReservedPort::new();
        let (keeper, certificate) = make(port.number(), &options).await;
        let cluster =
            Self { keeper, port, options, certificate, databases: AtomicUsize::default() };
        cluster.start_again().await;
        let password = cluster.options.password.as_ref();
        let password = password.map_or(String::new(), |text| format!(" PASSWORD '{text}'"));
        cluster.sql(SUPERUSER, &format!("CREATE ROLE {USER} LOGIN{password}")).await;
        cluster
    }

    /// Makes an empty database, and gives its URL. The last part of the path is its name.
    pub async fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(SUPERUSER, &format!("CREATE DATABASE {name} OWNER {USER}")).await;
        let password = self.options.password.as_ref();
        let password = password.map_or(String::new(), |text| format!(":{text}"));
        format!("postgres://{USER}{password}@{}/{name}", self.address())
    }

    /// Where the cluster listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The root of the server's certificate, if the cluster has TLS.
    pub fn root_certificate_pem(&self) -> Option<&str> {
        self.certificate.as_ref().map(|certificate| certificate.root.as_str())
    }

    /// A superuser's connection to a database, given by URL or name, past TLS, pools and proxies.
    pub async fn client(&self, database: &str) -> Client {
        self.try_client(database).await.unwrap_or_else(|error| {
            panic!("no connection to {database} ({error:?}); the log:\n{}", self.keeper.log())
        })
    }

    /// Runs statements as a superuser in a database, given by URL or name, and gives all their
    /// rows as text.
    pub async fn sql(&self, database: &str, statements: &str) -> Vec<Vec<Option<String>>> {
        let answers = self.client(database).await.simple_query(statements).await;
        let answers = answers.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
        let rows = answers.iter().filter_map(|answer| {
            let SimpleQueryMessage::Row(row) = answer else { return None };
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        });
        rows.collect()
    }

    /// Kills the server and all its processes with `SIGKILL`. Its port refuses connections from
    /// now on.
    pub async fn kill_9(&self) {
        self.keeper.end("KILL").await;
    }

    /// Ends the server at once, without a checkpoint; clients get error `57P01` or `57P02`.
    pub async fn stop_immediately(&self) {
        self.keeper.end("QUIT").await;
    }

    /// Ends the server with a checkpoint, after it has ended all connections, and starts it again.
    pub async fn restart(&self) {
        self.keeper.end("INT").await;
        self.start_again().await;
    }

    /// Starts the server after it ended, on the same port and data, and waits until it takes
    /// connections.
    pub async fn start_again(&self) {
        self.keeper.start().await;
        until_ready(&self.keeper, || self.try_client(SUPERUSER)).await;
    }

    /// Copies the data as a standby has it that is not told of later commits.
    pub async fn copy_data(&self) {
        let (folder, port) = (self.keeper.folder(), self.port.number());
        let copy = text(folder.join("copy"));
        let mut command = vec![text(programs::postgres("pg_basebackup"))];
        let user = format!("--username={SUPERUSER}");
        let (host, port) = (format!("--host={}", text(folder.into())), format!("--port={port}"));
        let signal = text(folder.join("copy/recovery.signal"));
        let options = [user, host, port, format!("--pgdata={copy}")];
        command.extend(options);
        command.extend(["--checkpoint=fast", "--no-sync"].map(str::to_owned));
        self.keeper.run(&command).await;
        self.keeper.run(&["touch".to_owned(), signal]).await;
    }

    /// Kills the server and starts the copy in its place, which knows nothing of what was committed
    /// since [`copy_data`](Self::copy_data), and has another timeline.
    pub async fn fail_over_to_copy(&self) {
        self.kill_9().await;
        let (data, copy) = (self.keeper.folder().join("data"), self.keeper.folder().join("copy"));
        self.keeper.run(&["rm".to_owned(), "-r".to_owned(), text(data.clone())]).await;
        self.keeper.run(&["mv".to_owned(), text(copy), text(data)]).await;
        self.start_again().await;
    }

    /// What the server has logged since it was first started.
    pub fn log(&self) -> String {
        self.keeper.log()
    }

    async fn try_client(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let name = name_of(database);
        let mut config = Config::new();
        config.host_path(self.keeper.folder()).port(self.port.number());
        connect_with(config.user(SUPERUSER).dbname(name)).await
    }
}

/// The name of a database that is given by URL or name.
pub fn name_of(database: &str) -> &str {
    database.rsplit('/').next().unwrap_or(database)
}

/// A client by URL, without TLS. A task of its own drives the connection.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    connect_with(&url.parse()?).await
}

async fn connect_with(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Waits until a connection succeeds.
///
/// # Panics
///
/// With the log of the server, if it ends, or takes none within [`START`].
async fn until_ready<C>(keeper: &Keeper, try_client: impl Fn() -> C)
where
    C: Future<Output = Result<Client, tokio_postgres::Error>>,
{
    let begun = Instant::now();
    while let Err(error) = try_client().await {
        let gives_up = begun.elapsed() > START || keeper.has_ended();
        assert!(!gives_up, "no connection ({error:?}); the log:\n{}", keeper.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes the files of a cluster.
async fn make(port: u16, options: &ClusterOptions) -> (Keeper, Option<ServerCertificate>) {
    let account = Account::for_servers();
    let folder = account.new_folder();
    let certificate = options.tls_names.as_ref().map(|names| ServerCertificate::new(names));
    if let Some(certificate) = &certificate {
        account.write(&folder.join("server.crt"), &certificate.chain);
        account.write(&folder.join("server.key"), &certificate.key);
    }
    account.write(&folder.join("hba.conf"), &access(options));
    let data = text(folder.join("data"));
    let server = server(port, &folder, options);
    let keeper = Keeper::new(&account, folder, &server, "QUIT");
    let user = format!("--username={SUPERUSER}");
    let settings = ["--encoding=UTF8", "--no-locale", "--no-sync", "--auth=trust", &user];
    let mut initdb = vec![text(programs::postgres("initdb")), "--pgdata".to_owned(), data];
    initdb.extend(settings.map(str::to_owned));
    keeper.run(&initdb).await;
    (keeper, certificate)
}

/// Who may connect. The harness itself comes by the socket in the folder of the cluster.
fn access(options: &ClusterOptions) -> String {
    let kind = if options.tls_names.is_some() { "hostssl" } else { "host" };
    let method = if options.password.is_some() { "scram-sha-256" } else { "trust" };
    format!(
        "local all all trust\nlocal replication all trust\n{kind} all all 127.0.0.1/32 {method}\n"
    )
}

/// The command of the server.
fn server(port: u16, folder: &Path, options: &ClusterOptions) -> Vec<String> {
    let file = |name: &str| text(folder.join(name));
    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("port", port.to_string()),
        ("unix_socket_directories", file("")),
        ("hba_file", file("hba.conf")),
        ("fsync", options.fsync.to_string()),
        ("max_connections", options.max_connections.to_string()),
        // A copy finds no more than its own log of writes, and then begins a new timeline.
        ("restore_command", "false".to_owned()),
        // It takes no connection before.
        ("hot_standby", "off".to_owned()),
    ];
    if options.tls_names.is_some() {
        settings.push(("ssl", "on".to_owned()));
        settings.push(("ssl_cert_file", file("server.crt")));
        settings.push(("ssl_key_file", file("server.key")));
    }
    settings.extend(options.settings.iter().cloned());
    let mut command = vec![text(programs::postgres("postgres")), "-D".to_owned(), file("data")];
    for (name, value) in settings {
        command.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    command
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("a path is text")
}

/// A free port on loopback, bound and never listened at, so that nobody else gets it while its
/// server is dead, and connections to it are refused.
struct ReservedPort(TcpSocket);

impl ReservedPort {
    fn new() -> Self {
        let port = TcpSocket::new_v4().expect("the system has sockets");
        port.set_reuseaddr(true).expect("a new socket takes options");
        port.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a port is free");
        Self(port)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("the socket is bound")
    }

    fn number(&self) -> u16 {
        self.address().port()
    }
}
