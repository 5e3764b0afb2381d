//! The guide: how the crate works and what it guarantees. This module has no code.
//!
//! | chapter | read it to | contents |
//! |---|---|---|
//! | [`semantics`] | use sessions | results per state, failures, recovery, crash behaviour, guarantees |
//! | [`middleware`] | call APIs with tokens | adapters for HTTP clients, origins, resends, redirects |
//! | [`operations`] | run a backend | events, status, alerts, change of secrets and keys, shutdown |
//! | [`replicas`] | run several machines | PostgreSQL, failures of replicas and of the database, operations |
//! | [`journal`] | survive a store that is away | the journal: tokens on the local disk, its costs and failures |
//! | [`metrics`] | watch a backend | the feature `metrics`: all metrics and their labels |
//! | [`security`] | review security | secrets, the transport, limits of the protection |
//! | [`oauth2`] | connect a server of OAuth 2.0 | settings, logins, servers that need more settings, presets |
//! | [`providers`] | connect another server | a provider for each tenant, providers of your own, vendors |
//! | [`testing`] | test a program that embeds the crate | test doubles, time, faults |
//! | [`defaults`] | change a bound | where each bound is set |
//! | [`architecture`] | read or change the code | modules and layers |

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

pub mod oauth2 {
    #![doc = include_str!("guide/oauth2.md")]
}

pub mod metrics {
    #![doc = include_str!("guide/metrics.md")]
}

pub mod operations {
    #![doc = include_str!("guide/operations.md")]
}

pub mod replicas {
    #![doc = include_str!("guide/replicas.md")]
}

pub mod journal {
    #![doc = include_str!("guide/journal.md")]
}

pub mod middleware {
    #![doc = include_str!("guide/middleware.md")]
}

pub mod testing {
    #![doc = include_str!("guide/testing.md")]
}
