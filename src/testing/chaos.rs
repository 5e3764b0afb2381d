//! Kills actors, so that a test can show that nothing is lost with them.

use crate::key::SessionId;
use crate::supervisor::Supervisor;

/// Kills actors of a supervisor. Exchanges that are running must survive that.
///
/// ```
/// use session_warden::Supervisor;
/// use session_warden::testing::Chaos;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), session_warden::Error> {
/// let supervisor = Supervisor::builder().start().await?;
/// assert!(Chaos::of(&supervisor).kill_supervisor());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Chaos(Supervisor);

impl Chaos {
    /// Makes a `Chaos` for this supervisor.
    #[must_use]
    pub fn of(supervisor: &Supervisor) -> Self {
        Self(supervisor.clone())
    }

    /// Kills the session's actor. Returns false if the session has no actor now, which is usual: an
    /// actor runs only while it has work.
    #[must_use]
    pub fn kill_session(&self, id: &SessionId) -> bool {
        self.0.kill_session_actor(id)
    }

    /// Kills the supervisor actor and with it all session actors. Returns false if no supervisor
    /// actor runs now.
    #[must_use]
    pub fn kill_supervisor(&self) -> bool {
        self.0.kill_supervisor_actor()
    }
}
