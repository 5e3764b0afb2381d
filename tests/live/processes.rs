//! Several processes on one store, a file or PostgreSQL: the state of a session after one of them is
//! killed or stopped at a step of an exchange, and many processes at once.

/// The tests on each store, from functions that take a store.
macro_rules! on_each_store {
    ($($test:ident,)*) => {
        on_each_store! { on_a_file File $($test)* }
        on_each_store! { on_postgres Postgres $($test)* }
    };
    ($module:ident $kind:ident $($test:ident)*) => {
        mod $module {
            use crate::processes::database::StoreKind;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test(StoreKind::$kind).await;
                }
            )*
        }
    };
}

mod child;
mod crashes;
mod crowd;
pub mod database;
mod device_logins;
mod front;
mod history;
mod journals;
pub mod orders;
mod pauses;
pub mod process_fixture;
mod pulse;
mod replica;
mod rules;
mod server;
mod soak;
pub mod storms;
mod together;
mod witness;
