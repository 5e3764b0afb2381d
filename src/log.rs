//! Log lines about one session.

/// Logs about a session. Provider, tenant and token id are separate fields, because one text of all
/// three could name two sessions.
macro_rules! log_session {
    ($level:ident, $id:expr, $($rest:tt)+) => {{
        let id: &$crate::key::SessionId = $id;
        tracing::$level!(
            provider = id.provider().as_str(),
            tenant = id.key().tenant().as_str(),
            token_id = id.key().token_id(),
            $($rest)+
        )
    }};
}

pub(crate) use log_session;
