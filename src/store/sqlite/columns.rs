//! The columns of the table `session`, and how they are read from a row.

use rusqlite::types::FromSql;
use rusqlite::{Row as SqlRow, ToSql};

use super::encoding::decode_counter;
use super::statement_error::{Result, StatementError};
use crate::key::{ProviderName, SessionId, SessionKey};
use crate::policy::SEALED_BYTES;
use crate::store::Floor;
use crate::store::record_cipher::ROW_TAG_BYTES;

/// The index of the id's first column in [`ALL_COLUMNS`].
pub(super) const ID_INDEX: usize = VALUE_COLUMNS.len();

/// The index of `rowid` in a query that asks for it after [`ALL_COLUMNS`].
pub(super) const ROWID_INDEX: usize = ID_INDEX + 3;

/// The most bytes of a holder's name, and of a boot id, which is a UUID as text.
const MAX_HOLDER_BYTES: usize = 16;
const MAX_BOOT_BYTES: usize = 64;

/// Makes the struct of a row. Columns are read and written in the order of its fields.
macro_rules! columns {
    ($(#[$of:meta])* pub(super) struct $row:ident<$r:lifetime> {
        $($(#[$about:meta])* $column:ident: $kind:ty = $read:expr,)*
    }) => {
        $(#[$of])*
        pub(super) struct $row<$r> {
            $($(#[$about])* pub(super) $column: $kind,)*
        }

        /// The columns without those of the id.
        pub(super) const VALUE_COLUMNS: &[&str] = &[$(stringify!($column)),*];

        /// All columns, those of the id last.
        pub(super) const ALL_COLUMNS: &str =
            concat!($(stringify!($column), ", ",)* "provider, tenant, token_id");

        impl<$r> $row<$r> {
            /// From a query of [`ALL_COLUMNS`].
            pub(super) fn read(row: &$r SqlRow<'_>) -> Result<Self> {
                let mut next = 0;
                Ok(Self { $($column: { next += 1; $read(row, next - 1)? },)* })
            }

            /// The values of [`VALUE_COLUMNS`], in their order.
            pub(super) fn values(&self) -> [&dyn ToSql; VALUE_COLUMNS.len()] {
                [$(&self.$column),*]
            }
        }
    };
}

columns! {
    /// A row as it stands in the file.
    #[derive(Clone, Copy)]
    pub(super) struct SessionRow<'r> {
        version: i64 = get,
        epoch: i64 = get,
        generation: i64 = get,
        fence: i64 = get,
        phase: i64 = get,
        lease_claim: Option<i64> = get,
        lease_owner: Option<i64> = get,
        lease_intent: Option<i64> = get,
        lease_from: Option<i64> = get,
        lease_until: Option<i64> = get,
        lease_holder: Option<&'r [u8]> = bytes::<MAX_HOLDER_BYTES>,
        lease_boot: Option<&'r str> = text::<MAX_BOOT_BYTES>,
        made_base: Option<i64> = get,
        made_fence: Option<i64> = get,
        made_claim: Option<i64> = get,
        access_expires_at: Option<i64> = get,
        refresh_expires_at: Option<i64> = get,
        suspect: i64 = get,
        lost: Option<i64> = get,
        retry_at: Option<i64> = get,
        tries: i64 = get,
        due_at: Option<i64> = get,
        sealed: Option<&'r [u8]> = bytes::<SEALED_BYTES>,
        outbox: Option<&'r [u8]> = bytes::<SEALED_BYTES>,
        /// The key that seals the credentials, or made the tag if there are none.
        key_id: Option<i64> = get,
        form: i64 = get,
        extra: Option<&'r [u8]> = bytes::<SEALED_BYTES>,
        mac: Option<&'r [u8]> = bytes::<ROW_TAG_BYTES>,
    }
}

/// The values of the three columns of an id.
pub(super) fn id_columns(id: &SessionId) -> (&str, &str, &str) {
    (id.provider().as_str(), id.key().tenant().as_str(), id.key().token_id())
}

/// The id in the three columns from `at` on.
pub(super) fn read_id(row: &SqlRow<'_>, at: usize) -> Result<SessionId> {
    let text = |at| row.get::<_, String>(at);
    let provider = ProviderName::new(text(at)?).map_err(|_| StatementError::malformed())?;
    let key =
        SessionKey::new(text(at + 1)?, text(at + 2)?).map_err(|_| StatementError::malformed())?;
    Ok(SessionId::new(provider, key))
}

/// The three counters in the columns from `at` on.
pub(super) fn read_counters(row: &SqlRow<'_>, at: usize) -> Result<Floor> {
    let counter = |at| decode_counter(row.get(at)?);
    Ok(Floor { version: counter(at)?, epoch: counter(at + 1)?, generation: counter(at + 2)? })
}

fn get<T: FromSql>(row: &SqlRow<'_>, at: usize) -> Result<T> {
    Ok(row.get(at)?)
}

/// At most `MAX` bytes. The length is checked before anything is copied.
fn bytes<'r, const MAX: usize>(row: &'r SqlRow<'_>, at: usize) -> Result<Option<&'r [u8]>> {
    let bytes = row.get_ref(at)?.as_blob_or_null().map_err(|_| StatementError::malformed())?;
    let fits = bytes.is_none_or(|bytes| bytes.len() <= MAX);
    if fits { Ok(bytes) } else { Err(StatementError::malformed()) }
}

fn text<'r, const MAX: usize>(row: &'r SqlRow<'_>, at: usize) -> Result<Option<&'r str>> {
    let text = row.get_ref(at)?.as_str_or_null().map_err(|_| StatementError::malformed())?;
    let fits = text.is_none_or(|text| text.len() <= MAX);
    if fits { Ok(text) } else { Err(StatementError::malformed()) }
}
