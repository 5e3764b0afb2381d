//! Sessions in a file.

mod changes;
mod damage;
mod faults;
mod model;
mod pages;
mod resealing;
mod restart;
mod rewritten;
mod sealing;
mod sessions;
mod shared;
pub mod store_folder;
mod strangers;
mod traces;

use self::store_folder::Shared;

mod one_handle {
    use super::Shared;

    session_warden::store_suite!(async { Shared::of(1) });
}

/// Two handles have two threads, two connections and two owner locks, as two processes have.
mod two_handles {
    use super::Shared;

    session_warden::store_suite!(async { Shared::of(2) });
}

mod in_clear {
    use super::Shared;

    session_warden::store_suite!(async { Shared::in_clear() });
}
