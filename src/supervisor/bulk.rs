//! Calls for many sessions at once: list and import.

use std::pin::pin;
use std::sync::Arc;

use futures_core::Stream;
use futures_util::stream::StreamExt;

use super::{Sessions, Supervisor};
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKey;
use crate::policy::{IMPORT_FAILURES, NAMED_REFUSALS, ROWS_AT_ONCE};
use crate::provider::Provider;
use crate::session::{Adopted, Filter, SessionStatus, list};
use crate::token::Tokens;

impl Supervisor {
    /// Lists the sessions that pass `filter`, in the order of their ids. See the example of
    /// [`Filter`].
    ///
    /// The list has all sessions of the store, in memory or not, also those of providers that are
    /// not registered. It shows the present state of a session in memory, and the record of any
    /// other session.
    ///
    /// The crate reads the list in [pages](crate::policy::LIST_PAGE), and sessions may change
    /// meanwhile. No session appears twice, and a session that exists all the time appears once. A
    /// session that was never established appears only while its first grant is exchanged.
    ///
    /// If a page cannot be read, the stream yields one `Store` error. It reads the page again when
    /// you ask for the next item. After 3 such errors in a row the list ends. After a shutdown the
    /// stream yields one `ShuttingDown`.
    pub fn list(
        &self,
        filter: Filter,
    ) -> impl Stream<Item = Result<SessionStatus>> + Send + 'static + use<> {
        list::list(Arc::clone(&self.dispatcher), filter)
    }
}

impl<P: Provider> Sessions<P> {
    /// As [`Supervisor::list`], but lists only sessions of this provider. With a filter for another
    /// provider, the list is empty.
    pub fn list(
        &self,
        filter: Filter,
    ) -> impl Stream<Item = Result<SessionStatus>> + Send + 'static + use<P> {
        let name = self.provider.name.clone();
        let excluded = filter.excludes(&name);
        let listed = list::list(Arc::clone(&self.dispatcher), filter.provider(name));
        listed.take_while(move |_| std::future::ready(!excluded))
    }

    /// Makes a session from each row of tokens that the backend already has, as
    /// [`adopt`](crate::Session::adopt) does with
    /// [`Adopt::IfVacant`](crate::session::Adopt::IfVacant). A session that exists or existed stays
    /// as it is. So you can run an import again, in part or as a whole, while the backend works,
    /// and it replaces no newer token. See the example of [`ImportReport`].
    ///
    /// The crate imports [several rows](crate::policy::ROWS_AT_ONCE) at once, and the imported
    /// sessions do not stay in memory. An import publishes no events: the report has the result of
    /// each row. If the store cannot save a row, the import refuses the row with `Store`, and no
    /// session comes from it.
    ///
    /// # Errors
    ///
    /// `Store` if the store failed for 128 rows in a row, and `ShuttingDown`. Sessions that were
    /// imported before stay.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped: imported sessions stay, and rows whose import has begun are still
    /// imported.
    pub async fn import(
        &self,
        rows: impl Stream<Item = (SessionKey, Tokens<P::Attributes>)> + Send,
    ) -> Result<ImportReport> {
        let imported = rows.map(|(key, tokens)| {
            let session = self.session(key.clone());
            async move { (key, session.import(tokens).await) }
        });
        let mut imported = pin!(imported.buffer_unordered(ROWS_AT_ONCE));
        let mut report = ImportReport::default();
        let mut failures = 0;
        while let Some((key, outcome)) = imported.next().await {
            let failed = outcome.as_ref().err().map(Error::kind);
            failures = if failed == Some(ErrorKind::Store) { failures + 1 } else { 0 };
            match outcome {
                Err(error)
                    if failures >= IMPORT_FAILURES || failed == Some(ErrorKind::ShuttingDown) =>
                {
                    return Err(error);
                }
                outcome => report.count(key, outcome),
            }
        }
        Ok(report)
    }
}

/// The results of an [`import`](Sessions::import).
///
/// ```
/// use session_warden::supervisor::ImportReport;
/// use session_warden::testing::ScriptedProvider;
/// use session_warden::token::Tokens;
/// use session_warden::{Error, SessionKey, Sessions, Supervisor};
///
/// async fn import(sessions: &Sessions<ScriptedProvider>) -> Result<ImportReport, Error> {
///     // The rows of the table in which the backend has kept refresh tokens so far.
///     let table = [("lamp", "refresh-of-lamp"), ("door", "")];
///     let rows = table.map(|(device, token)| {
///         let tokens = Tokens::new(()).with_refresh_token(token, None);
///         Ok((SessionKey::new("north", device)?, tokens))
///     });
///     let rows = rows.into_iter().collect::<Result<Vec<_>, Error>>()?;
///     sessions.import(futures_util::stream::iter(rows)).await
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let fake = ScriptedProvider::new();
/// # let supervisor = Supervisor::builder().provider("fake", fake).start().await?;
/// # let sessions = supervisor.sessions::<ScriptedProvider>("fake")?;
/// let report = import(&sessions).await?;
/// assert_eq!((report.adopted, report.already_there), (1, 0));
/// let (key, error) = &report.refused[0];
/// assert_eq!(key.token_id(), "door");
/// assert!(!error.is_transient()); // the token is empty: importing the row again does not help
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// How many rows became a session.
    pub adopted: u64,
    /// How many rows have a session that exists or existed already.
    pub already_there: u64,
    /// The first 1,000 rows from which no session came, each with its error. You can import a row
    /// again if its error [is transient](Error::is_transient).
    pub refused: Vec<(SessionKey, Error)>,
    /// How many rows were refused in addition to those 1,000.
    pub refused_beyond: u64,
}

impl ImportReport {
    fn count(&mut self, key: SessionKey, outcome: Result<Adopted>) {
        match outcome {
            Ok(Adopted::Yes) => self.adopted += 1,
            Ok(Adopted::AlreadyThere) => self.already_there += 1,
            Err(error) if self.refused.len() < NAMED_REFUSALS => self.refused.push((key, error)),
            Err(_) => self.refused_beyond += 1,
        }
    }
}
