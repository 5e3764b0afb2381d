//! The options with which a store is opened.

use std::fmt;
use std::sync::Arc;

use tokio_postgres::Config;

use super::postgres_fault::PostgresFault;
use super::schema::TableNames;
use super::ssl_mode::{ConnectionUrl, mode_of};
use crate::clock::Clock;
use crate::seal::KeyRing;

/// The schema in which the tables are, unless the program names another.
const SCHEMA: &str = "session_warden";

/// How many connections a store has for reads. Defaults to 3: loads, the feed of changes and pages
/// of records at the same time.
const READ_CONNECTIONS: usize = 3;

/// The settings with which a store in PostgreSQL is opened.
///
/// ```
/// use std::error::Error as _;
/// use session_warden::store::postgres::{PostgresBuilder, PostgresFault, PostgresStore};
/// use session_warden::store::StoreErrorKind;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let url = "postgres://warden@127.0.0.1:1/app"; // nothing listens on this port
/// let settings: PostgresBuilder = PostgresStore::builder(url)
///     .schema("auth")
///     .table_prefix("device_")
///     .skip_migrations();
///
/// // For a team that runs its migrations itself:
/// assert!(settings.migrations_sql()?.contains("IF NOT EXISTS \"auth\".device_session"));
/// assert!(settings.grants_sql("backend")?.contains("ON \"auth\".device_store TO \"backend\""));
///
/// let refused = settings.open().await.unwrap_err();
/// assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
/// let fault = refused.source().and_then(|fault| fault.downcast_ref());
/// assert!(matches!(fault, Some(PostgresFault::Unreachable { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct PostgresBuilder {
    address: Address,
    pub(super) root_pem: Option<Vec<u8>>,
    schema: String,
    prefix: String,
    pub(super) migrate: bool,
    pub(super) read_connections: usize,
    pub(super) keys: Option<KeyRing>,
    pub(super) in_clear: bool,
    pub(super) clock: Option<Arc<dyn Clock>>,
}

#[derive(Clone)]
enum Address {
    Url(String),
    Config(Box<Config>),
}

impl PostgresBuilder {
    pub(super) fn of_url(url: &str) -> Self {
        Self::new(Address::Url(url.to_owned()))
    }

    pub(super) fn of_config(config: Config) -> Self {
        Self::new(Address::Config(Box::new(config)))
    }

    fn new(address: Address) -> Self {
        Self {
            address,
            root_pem: None,
            schema: SCHEMA.to_owned(),
            prefix: String::new(),
            migrate: true,
            read_connections: READ_CONNECTIONS,
            keys: None,
            in_clear: false,
            clock: None,
        }
    }

    /// Puts the tables into this schema. Defaults to `session_warden`. A name has at most 30
    /// lower-case letters, digits and underscores, a letter first.
    pub fn schema(mut self, name: &str) -> Self {
        name.clone_into(&mut self.schema);
        self
    }

    /// Begins the names of all tables with this, for example `auth_`. Defaults to nothing.
    pub fn table_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Trusts these root certificates, in PEM, in addition to those of the operating system. The
    /// parameter `sslrootcert` of the URL names a file of such certificates.
    pub fn root_certificate_pem(mut self, pem: &[u8]) -> Self {
        self.root_pem = Some(pem.to_owned());
        self
    }

    /// Makes no tables and changes none. If they are missing or older than this program, `open`
    /// fails with [`PostgresFault::NotMigrated`]. Before that, run
    /// [`migrations_sql`](Self::migrations_sql) and [`grants_sql`](Self::grants_sql) as a user that
    /// has the privilege `CREATE` on the database.
    pub fn skip_migrations(mut self) -> Self {
        self.migrate = false;
        self
    }

    /// Sets how many connections the store has for reads, at least 1. Defaults to 3. Besides these,
    /// it has one for claims and one for commits.
    pub fn read_connections(mut self, number: usize) -> Self {
        self.read_connections = number.max(1);
        self
    }

    /// Encrypts and decrypts records with these keys instead of the supervisor's.
    pub fn key_ring(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Writes tokens without encryption. Everybody who can read the tables or a backup of them can
    /// use the tokens. The first process that opens the store decides this for all. To change it later, copy
    /// the sessions into another schema with [`copy_store`](crate::store::copy_store()).
    pub fn tokens_in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    /// Sets the clock with which the store estimates the database's time between two statements.
    /// Defaults to the clock of the first supervisor that uses the store. Only tests need this.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Returns the SQL that makes the tables, for programs that run their own migrations. It can run
    /// several times. Run it in one transaction.
    ///
    /// # Errors
    ///
    /// [`PostgresFault::InvalidName`] if the schema or the prefix is not a valid name.
    pub fn migrations_sql(&self) -> Result<String, PostgresFault> {
        Ok(self.names()?.migrations_sql())
    }

    /// Returns the SQL that grants this role what the store needs if it does not migrate: to read
    /// and write the rows of seven tables, and to run four functions.
    ///
    /// # Errors
    ///
    /// [`PostgresFault::InvalidName`] if the schema or the prefix is not a valid name.
    pub fn grants_sql(&self, role: &str) -> Result<String, PostgresFault> {
        Ok(self.names()?.grants_sql(role))
    }

    pub(super) fn names(&self) -> Result<TableNames, PostgresFault> {
        TableNames::new(&self.schema, &self.prefix)
    }

    pub(super) fn connection_url(&self) -> Result<ConnectionUrl, PostgresFault> {
        match &self.address {
            Address::Url(url) => ConnectionUrl::parse(url),
            Address::Config(config) => Ok(ConnectionUrl {
                config: (**config).clone(),
                mode: mode_of(config),
                root_file: None,
            }),
        }
    }
}

impl fmt::Debug for PostgresBuilder {
    /// Without the address, which may hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBuilder")
            .field("schema", &self.schema)
            .field("prefix", &self.prefix)
            .field("migrate", &self.migrate)
            .field("in_clear", &self.in_clear)
            .finish_non_exhaustive()
    }
}
