//! The spans of exchanges, and of the callers that wait for them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use session_warden::provider::FailureClass;
use session_warden::testing::Reply;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::fixtures::{ScriptedFixture, established, fixture};
use crate::support::{LIFE, SECOND, callers};

const EXCHANGE: &str = "session_warden.exchange";
const WAIT: &str = "session_warden.wait";

/// All spans since the start, with their parents and with the spans that they follow from.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[derive(Clone, Debug, Default)]
struct Span {
    /// 0 for a log line.
    id: u64,
    name: &'static str,
    parent: Option<&'static str>,
    follows: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    is_closed: bool,
}

impl Spans {
    /// Captures the spans of this thread until the guard is dropped.
    fn capture(&self) -> (tracing::subscriber::DefaultGuard, tracing::Dispatch) {
        let subscriber = tracing_subscriber::registry().with(self.clone());
        // With one subscriber alone, a place in the code that another test comes to first is
        // switched off for good, because that test's thread has none.
        let second = tracing::Dispatch::new(tracing_subscriber::registry());
        (tracing::subscriber::set_default(subscriber), second)
    }

    fn named(&self, name: &str) -> Vec<Span> {
        self.0.lock().iter().filter(|span| span.name == name).cloned().collect()
    }

    fn the_exchange(&self) -> Span {
        let exchanges = self.named(EXCHANGE);
        assert_eq!(exchanges.len(), 1, "{exchanges:#?}");
        exchanges[0].clone()
    }

    fn change(&self, id: &Id, change: impl FnOnce(&mut Span)) {
        let mut spans = self.0.lock();
        // Ids are used again, so the latest span counts.
        if let Some(span) = spans.iter_mut().rev().find(|span| span.id == id.into_u64()) {
            change(span);
        }
    }
}

impl Span {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent().map(|parent| parent.name());
        let mut new = Span { id: id.into_u64(), name: span.name(), parent, ..Span::default() };
        attributes.record(&mut new);
        self.0.lock().push(new);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.change(id, |span| values.record(span));
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, _: Context<'_, S>) {
        self.change(id, |span| span.follows = Some(follows.into_u64()));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let parent = context.event_span(event).map(|parent| parent.name());
        let mut line = Span { name: event.metadata().target(), parent, ..Span::default() };
        event.record(&mut line);
        self.0.lock().push(line);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.change(&id, |span| span.is_closed = true);
    }
}

impl Visit for Span {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

async fn expired() -> ScriptedFixture {
    let fixture = established().await;
    fixture.clock.advance(LIFE + SECOND).await;
    fixture
}

#[tokio::test]
async fn an_exchange_has_a_span_of_its_own_that_follows_from_its_caller() {
    let fixture = expired().await;
    let spans = Spans::default();
    let _captured = spans.capture();
    let caller = tracing::span!(Level::INFO, "request");
    fixture.session.permission_token().instrument(caller).await.unwrap();
    fixture.clock.advance(SECOND).await;

    let exchange = spans.the_exchange();
    assert_eq!(exchange.parent, None, "neither the caller nor an actor is in front");
    assert_eq!(exchange.follows, Some(spans.named("request")[0].id));
    for (field, value) in [
        ("provider", "p"),
        ("tenant", "tenant"),
        ("token_id", "device"),
        ("kind", "refresh"),
        ("attempt", "1"),
        ("outcome", "success"),
        ("status", ""),
        ("duration_ms", "0"),
    ] {
        assert_eq!(exchange.field(field), value, "{field}");
    }
    assert_eq!(exchange.field("exchange").len(), 16);
    assert!(exchange.is_closed && spans.named("request")[0].is_closed);
}

#[tokio::test]
async fn each_caller_that_only_waited_has_a_span_with_the_exchange() {
    let fixture = expired().await;
    let spans = Spans::default();
    let _captured = spans.capture();
    fixture.script.refresh(Reply::Hold);
    let asking = callers(5, || {
        let (session, request) = (fixture.session.clone(), tracing::info_span!("request"));
        async move { session.permission_token().await.map(drop) }.instrument(request)
    });
    fixture.script.held(1).await;
    fixture.script.release();
    fixture.until(asking.join_all()).await.into_iter().for_each(Result::unwrap);

    let (exchange, waits) = (spans.the_exchange(), spans.named(WAIT));
    assert_eq!(waits.len(), 4, "the caller that started it did not only wait");
    for wait in waits {
        assert_eq!(wait.parent, Some("request"));
        assert_eq!(wait.field("exchange"), exchange.field("exchange"));
        assert_eq!(wait.field("provider"), "p");
    }
}

#[tokio::test]
async fn the_span_says_how_a_refresh_failed() {
    let fixture = expired().await;
    let spans = Spans::default();
    let _captured = spans.capture();
    fixture.script.refresh(Reply::Fail(FailureClass::NotProcessed));
    fixture.token().await.unwrap_err();
    let exchange = spans.the_exchange();
    assert_eq!((exchange.field("kind"), exchange.field("outcome")), ("refresh", "not_processed"));
}

#[tokio::test]
async fn the_span_of_a_grant_follows_from_the_caller_whose_grant_it_is() {
    let fixture = fixture().await;
    let spans = Spans::default();
    let _captured = spans.capture();
    let caller = tracing::info_span!("sign_in");
    let _ = fixture.session.establish(()).instrument(caller).await.unwrap();
    let exchange = spans.the_exchange();
    assert_eq!((exchange.parent, exchange.field("kind")), (None, "establish"));
    assert_eq!(exchange.follows, Some(spans.named("sign_in")[0].id));

    let caller = tracing::info_span!("sign_out");
    fixture.session.revoke().instrument(caller).await.unwrap();
    let revocation = spans.named(EXCHANGE).remove(1);
    assert_eq!((revocation.field("kind"), revocation.field("outcome")), ("revoke", "success"));
    assert_eq!(revocation.follows, Some(spans.named("sign_out")[0].id));
}

#[tokio::test]
async fn the_span_of_a_scheduled_exchange_follows_from_nobody() {
    let fixture = expired().await;
    let spans = Spans::default();
    let _captured = spans.capture();
    fixture.script.revoke(Reply::Fail(FailureClass::NotSent));
    let _ = fixture.session.revoke().await.unwrap();
    fixture.clock.advance(120 * SECOND).await;
    let revocations = spans.named(EXCHANGE);
    assert!(revocations.len() > 1, "the schedule repeats it: {revocations:#?}");
    assert_eq!(revocations[0].field("outcome"), "not_sent");
    assert_eq!(revocations.last().unwrap().field("outcome"), "success");
    assert!(revocations.iter().all(|span| span.parent.is_none() && span.follows.is_none()));
}

#[tokio::test]
async fn no_log_line_has_a_span_of_an_actor_in_front() {
    let fixture = fixture().await;
    let spans = Spans::default();
    let _captured = spans.capture();
    let _ = fixture.session.establish(()).await.unwrap();
    fixture.clock.advance(LIFE + SECOND).await;
    fixture.script.refresh(Reply::Hold);
    let session = fixture.session.clone();
    let asking = tokio::spawn(async move { session.permission_token().await.map(drop) });
    fixture.script.held(1).await;
    assert!(fixture.chaos().kill_session(fixture.session.id()));
    assert!(fixture.chaos().kill_supervisor());
    fixture.script.release();
    fixture.until(asking).await.unwrap().unwrap();
    fixture.clock.advance(60 * SECOND).await;

    let lines = spans.0.lock().clone().into_iter().filter(|line| line.id == 0);
    let own: Vec<_> = lines.filter(|line| line.name.starts_with("session_warden")).collect();
    let told = |name: &str| own.iter().any(|line| line.field("event") == name);
    for name in ["established", "refreshed", "supervisor_restarted"] {
        assert!(told(name), "{name}: {own:#?}");
    }
    for line in own {
        assert!(matches!(line.parent, None | Some(EXCHANGE)), "{line:?}");
    }
}

#[test]
fn an_exchange_whose_runtime_ends_leaves_a_span_that_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spans = Spans::default();
    let _captured = spans.capture();
    runtime.block_on(async {
        let fixture = fixture().await;
        fixture.script.establish(Reply::Hang);
        let session = fixture.session.clone();
        drop(tokio::spawn(async move { session.establish(()).await.map(drop) }));
        fixture.script.held(1).await;
    });
    drop(runtime);
    assert_eq!(spans.the_exchange().field("outcome"), "aborted");
}
