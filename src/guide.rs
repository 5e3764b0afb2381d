//! The guide: how the crate works and what it promises, chapter by chapter. There is no code here.
//!
//! | chapter | for whom |
//! |---|---|
//! | [`semantics`] | everybody: what a call gives in which state, what a failure means, what survives what |
//! | [`operations`] | whoever runs it: events, status, what to alert on, secrets and keys that change, shutdown |
//! | [`security`] | whoever answers for it: secrets, the transport, what is not protected |
//! | [`providers`] | whoever connects a server: the `oauth2` provider's settings, a provider for each tenant, providers of your own |
//! | [`testing`] | whoever tests a programme that embeds it |
//! | [`defaults`] | whoever changes a bound |
//! | [`architecture`] | whoever reads or changes the code |

pub mod architecture {
    #![doc = include_str!("guide/architecture.md")]
}

pub mod semantics {
    #![doc = include_str!("guide/semantics.md")]
}

pub mod defaults {
    #![doc = include_str!("guide/defaults.md")]
}

pub mod security {
    #![doc = include_str!("guide/security.md")]
}

pub mod providers {
    #![doc = include_str!("guide/providers.md")]
}

pub mod operations {
    #![doc = include_str!("guide/operations.md")]
}

pub mod testing {
    #![doc = include_str!("guide/testing.md")]
}
