//! What the replicas share about clients: one row for each client that was ever held back.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::database_clock::DatabaseTime;
use super::holder_rows::{HEARTBEAT, SILENCE};
use super::postgres_fault::PostgresFault;
use crate::clock::BootTime;
use crate::key::{ProviderName, Tenant};
use crate::store::encoding::{
    decode_boot_time, decode_counter, encode_boot_time, encode_counter, encode_duration,
    encode_limit,
};
use crate::store::row_fault::RowFault;
use crate::store::{
    ClaimId, ClientChange, ClientKey, ClientOutcome, ClientPage, ListedClient, Owner, Probe,
    SharedClient, SharedStop, decide_client,
};

/// How often a change is decided again because another replica has written the row. Defaults to 32:
/// one of the writers wins each time.
const MAX_TRIES: u32 = 32;

/// The place of the first column of the row, behind the time and the number of writes.
const FIRST_COLUMN: usize = 2;

impl Shared {
    /// Reads the row of a client, decides, and writes the row if no other replica has written it
    /// meanwhile.
    pub(super) async fn client(
        &self,
        key: &ClientKey,
        change: &ClientChange,
    ) -> Result<ClientOutcome, PostgresFault> {
        let (provider, tenant) = (key.provider.as_str(), tenant_column(key.tenant.as_ref()));
        let client = &*key.client;
        let names: [(&(dyn ToSql + Sync), Type); 3] =
            [(&provider, Type::TEXT), (&tenant, Type::TEXT), (&client, Type::TEXT)];
        for _ in 0..MAX_TRIES {
            let rows = self.connections.query(&self.statements.read_client, &names).await?;
            let row = rows.first().ok_or(PostgresFault::NotMigrated)?;
            let now = DatabaseTime(row.try_get(0)?);
            self.note_time(now);
            let writes: Option<i64> = row.try_get(1)?;
            let found = writes.map(|_| read_client(row, FIRST_COLUMN)).transpose()?;
            let decision = decide_client(found, change, now.now());
            let Some(write) = decision.write else { return Ok(decision.outcome) };
            let columns = ClientColumns::of(&write);
            let mut parameters = names.to_vec();
            parameters.push((&writes as _, Type::INT8));
            parameters.extend(columns.parameters());
            if !self.connections.query(&self.statements.write_client, &parameters).await?.is_empty()
            {
                return Ok(decision.outcome);
            }
        }
        Err(PostgresFault::Contended)
    }

    /// A page of the clients that are held back, and how many supervisors run.
    pub(super) async fn clients(
        &self,
        after: Option<&ClientKey>,
        limit: usize,
    ) -> Result<ClientPage, PostgresFault> {
        let (provider, tenant, client) = after.map_or(("", "", ""), |key| {
            (key.provider.as_str(), tenant_column(key.tenant.as_ref()), &*key.client)
        });
        let (limit, silence) = (encode_limit(limit), encode_duration(SILENCE));
        let parameters = [
            (&provider as _, Type::TEXT),
            (&tenant as _, Type::TEXT),
            (&client as _, Type::TEXT),
            (&limit as _, Type::INT8),
            (&silence as _, Type::INT8),
        ];
        let rows = self.connections.query(&self.statements.clients, &parameters).await?;
        let head = rows.first().ok_or(PostgresFault::NotMigrated)?;
        let now = DatabaseTime(head.try_get(0)?);
        self.note_time(now);
        let holders = usize::try_from(head.try_get::<_, i64>(1)?).unwrap_or(0);
        let clients = rows.iter().filter_map(read_listed).collect();
        Ok(ClientPage { clients, now: now.now(), holders, next_in: HEARTBEAT })
    }
}

/// The values of a row, without those of its key.
struct ClientColumns<'c> {
    version: i64,
    throttled_until: Option<i64>,
    stopped: bool,
    stop_tenant: Option<&'c str>,
    stop_code: Option<&'c str>,
    probe_at: Option<i64>,
    probe_claim: Option<i64>,
    probe_owner: Option<i64>,
}

impl<'c> ClientColumns<'c> {
    fn of(client: &'c SharedClient) -> Self {
        let stop = client.stop.as_ref();
        let probe = stop.and_then(|stop| stop.probe);
        Self {
            version: encode_counter(client.version),
            throttled_until: client.throttled_until.map(encode_boot_time),
            stopped: stop.is_some(),
            stop_tenant: stop.and_then(|stop| stop.tenant.as_ref()).map(Tenant::as_str),
            stop_code: stop.and_then(|stop| stop.code.as_deref()),
            probe_at: stop.map(|stop| encode_boot_time(stop.probe_at)),
            probe_claim: probe.map(|probe| probe.claim.0.cast_signed()),
            probe_owner: probe.map(|probe| probe.owner.0.cast_signed()),
        }
    }

    fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 8] {
        [
            (&self.version, Type::INT8),
            (&self.throttled_until, Type::INT8),
            (&self.stopped, Type::BOOL),
            (&self.stop_tenant, Type::TEXT),
            (&self.stop_code, Type::TEXT),
            (&self.probe_at, Type::INT8),
            (&self.probe_claim, Type::INT8),
            (&self.probe_owner, Type::INT8),
        ]
    }
}

/// The client in the columns from `at` on, which are in the order of [`ClientColumns`].
fn read_client(row: &Row, at: usize) -> Result<SharedClient, PostgresFault> {
    let time = |at| Ok::<_, PostgresFault>(row.try_get::<_, Option<i64>>(at)?);
    let boot = |at| Ok::<Option<BootTime>, PostgresFault>(time(at)?.map(decode_boot_time));
    let stop = if row.try_get::<_, bool>(at + 2)? {
        let tenant: Option<&str> = row.try_get(at + 3)?;
        let probe = match (time(at + 6)?, time(at + 7)?) {
            (Some(claim), Some(owner)) => Some(Probe {
                claim: ClaimId(claim.cast_unsigned()),
                owner: Owner(owner.cast_unsigned()),
            }),
            _ => None,
        };
        Some(SharedStop {
            tenant: tenant.map(Tenant::new).transpose().map_err(|_| RowFault::Malformed)?,
            code: row.try_get(at + 4)?,
            probe_at: boot(at + 5)?.ok_or(RowFault::Malformed)?,
            probe,
        })
    } else {
        None
    };
    let version = decode_counter(row.try_get(at)?)?;
    Ok(SharedClient { version, throttled_until: boot(at + 1)?, stop })
}

/// A row of a page. `None` if it has no client, or one that this version does not read.
fn read_listed(row: &Row) -> Option<ListedClient> {
    let text = |at| row.try_get::<_, Option<&str>>(at).ok()?;
    let (provider, tenant, client) = (text(2)?, text(3)?, text(4)?);
    let key = ClientKey {
        provider: ProviderName::new(provider).ok()?,
        tenant: if tenant.is_empty() { None } else { Some(Tenant::new(tenant).ok()?) },
        client: Arc::from(client),
    };
    Some(ListedClient { key, client: read_client(row, 5).ok()? })
}

/// No tenant's name is empty.
fn tenant_column(tenant: Option<&Tenant>) -> &str {
    tenant.map_or("", Tenant::as_str)
}
