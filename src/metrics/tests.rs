use metrics_exporter_prometheus::PrometheusBuilder;

use super::recording::Recording;
use crate::key::ProviderName;
use crate::measurements::{Measurements, StoredSessions};

#[test]
fn the_count_of_the_stores_sessions_sets_a_gauge_for_each_state_and_each_time() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let provider = &ProviderName::new("p").unwrap();
    let page = metrics::with_local_recorder(&recorder, || {
        let recording = Recording::new(None);
        for (active, refresh_tokens_ending) in [(7, [1, 2, 3]), (6, [0, 2, 3])] {
            let states = &[("active", active), ("lost", 1)];
            let counted = StoredSessions { provider, states, refresh_tokens_ending };
            recording.sessions_counted(&counted);
        }
        handle.render()
    });
    for line in [
        r#"session_warden_sessions{provider="p",state="active"} 6"#,
        r#"session_warden_sessions{provider="p",state="lost"} 1"#,
        r#"session_warden_refresh_tokens_ending{provider="p",within="1d"} 0"#,
        r#"session_warden_refresh_tokens_ending{provider="p",within="7d"} 2"#,
        r#"session_warden_refresh_tokens_ending{provider="p",within="30d"} 3"#,
    ] {
        assert!(page.lines().any(|of_page| of_page == line), "{line}\n{page}");
    }
}
