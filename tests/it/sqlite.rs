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
pub mod store_folder;
mod strangers;
mod traces;
mod two_processes;

use self::store_folder::AlternatingStore;

mod one_handle {
    use super::AlternatingStore;

    session_warden::store_suite!(async { AlternatingStore::of(1) });
}

/// Two handles have two threads, two connections and two owner locks, as two processes have.
mod two_handles {
    use super::AlternatingStore;

    session_warden::store_suite!(async { AlternatingStore::of(2) });
}

mod in_clear {
    use super::AlternatingStore;

    session_warden::store_suite!(async { AlternatingStore::in_clear() });
}
