//! The kinds of exchanges.

/// The kind of an exchange, for the pacing of retries and the history of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExchangeKind {
    /// A caller's grant, or an operation.
    Grant,
    /// A refresh or a renewal.
    Own,
}
