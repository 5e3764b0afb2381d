//! Random statements on a file that two processes share, on memory and on the model of all stores.

use std::sync::Arc;

use proptest::prelude::*;
use session_warden::testing::ManualClock;

use crate::store_model::{File, Run, walks};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_file_two_processes_share_memory_and_the_model_agree_on_any_statements(walk in walks()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let clock = ManualClock::new();
            let (file, shown) = (File::new(clock.clone()), Arc::new(clock.clone()));
            Run::new(clock, shown, vec![Box::new(file)]).walk(&walk).await;
        });
    }
}
