//! The cost of an import of many sessions, and of a list of one tenant's sessions.
//!
//! `cargo bench --bench import` imports 100,000 sessions of 1,000 tenants into a memory store,
//! imports them again, and lists one tenant. It prints the time of each step and the memory after
//! it.

#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]
#![expect(clippy::expect_used, reason = "without its setting there is nothing to measure")]

use std::time::{Duration, Instant, SystemTime};

use futures_util::{StreamExt, stream};
use session_warden::key::Tenant;
use session_warden::session::Filter;
use session_warden::testing::ScriptedProvider;
use session_warden::token::Tokens;
use session_warden::{SessionKey, Sessions, Supervisor};

const TENANTS: usize = 1_000;
const EACH: usize = 100;
const LISTS: u32 = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let provider = ScriptedProvider::new();
    let supervisor =
        Supervisor::builder().provider("p", provider).start().await.expect("a supervisor");
    let sessions: Sessions<ScriptedProvider> = supervisor.sessions("p").expect("sessions");
    println!("{:>22} {:>10} {:>12} {:>10}", "", "time", "each", "RSS");
    tell("before", Duration::ZERO, 1);
    for name in ["import", "import again"] {
        let begun = Instant::now();
        let report = sessions.import(rows()).await.expect("an import");
        tell(name, begun.elapsed(), TENANTS * EACH);
        assert_eq!(report.adopted + report.already_there, (TENANTS * EACH) as u64);
        assert!(report.refused.is_empty(), "{report:?}");
        println!("{:>22} {} resident", "", supervisor.snapshot().sessions);
    }
    let tenant = || Tenant::new("tenant-500").expect("a tenant");
    let mut begun = Instant::now();
    for _ in 0..LISTS {
        assert_eq!(sessions.list(Filter::tenant(tenant())).count().await, EACH);
    }
    tell("list of a tenant", begun.elapsed() / LISTS, EACH);
    begun = Instant::now();
    for _ in 0..LISTS / 10 {
        assert_eq!(supervisor.list(Filter::tenant(tenant())).count().await, EACH);
    }
    tell("of any provider", begun.elapsed() / (LISTS / 10), EACH);
    begun = Instant::now();
    assert_eq!(supervisor.list(Filter::default()).count().await, TENANTS * EACH);
    tell("list of all", begun.elapsed(), TENANTS * EACH);
    begun = Instant::now();
    assert_eq!(sessions.forget_tenant(&tenant()).await.expect("forgotten").sessions, EACH as u64);
    tell("forget a tenant", begun.elapsed(), EACH);
    println!("{:>22} {} resident", "", supervisor.snapshot().sessions);
}

/// The rows, made one by one like rows that are read from a table.
fn rows() -> impl futures_util::Stream<Item = (SessionKey, Tokens)> + Send {
    let end = SystemTime::now() + Duration::from_secs(3600);
    stream::iter(0..TENANTS * EACH).map(move |number| {
        let (tenant, device) = (number % TENANTS, number / TENANTS);
        let key = SessionKey::new(format!("tenant-{tenant}"), format!("device-{device}"));
        let tokens = Tokens::new(())
            .with_access_token(format!("access-{number:032}"), Some(end))
            .with_refresh_token(
                format!("refresh-{number:032}"),
                Some(end + Duration::from_secs(86_400)),
            );
        (key.expect("a key"), tokens)
    })
}

fn tell(name: &str, took: Duration, each: usize) {
    let one = took.as_nanos() / each as u128;
    println!("{name:>22} {took:>10.1?} {one:>9} ns {:>7} MB", resident_megabytes());
}

/// The memory of this process by the kernel's count; 0 if it reports none.
fn resident_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
