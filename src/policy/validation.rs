//! Checks of a policy for values that cannot work.

use std::time::Duration;

use super::{
    Backoff, ENDED_KEPT_AT_LEAST, LONGEST_LIFE, Policy, ProviderLimits, RefreshPolicy, Restarts,
    SAVE_MARGIN,
};

/// Says what is wrong with a field, and what to do. The field has its name in it.
type Fault = String;

/// The first text whose condition holds.
fn first(faults: &[(bool, &'static str)]) -> Option<&'static str> {
    faults.iter().find(|(is_there, _)| *is_there).map(|(_, text)| *text)
}

/// The fault of the first of these fields that is zero.
fn zero(fields: &[(bool, &'static str)]) -> Option<Fault> {
    first(fields).map(|field| format!("`{field}` is zero; set a larger value"))
}

/// The fault of the first of these fields whose time is longer than any that makes sense. Sums of
/// shorter times do not overflow.
fn endless(fields: &[(Duration, &'static str)]) -> Option<Fault> {
    let (_, field) = fields.iter().find(|(time, _)| *time > LONGEST_LIFE)?;
    Some(format!("`{field}` is longer than ten years; set a shorter time"))
}

/// The fault of the first of these fields that is no part of a whole.
fn no_part(fields: &[(f64, &'static str)]) -> Option<Fault> {
    let (_, field) = fields.iter().find(|(number, _)| !(0.0..=1.0).contains(number))?;
    Some(format!("`{field}` is not between 0 and 1; correct it"))
}

impl Policy {
    /// The first value of this policy that cannot work, if there is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.bound_fault()
            .or_else(|| self.zero_fault())
            .or_else(|| self.endless_fault())
            .or_else(|| self.exchange_fault())
            .or_else(|| self.retention_fault())
            .or_else(|| self.backoff.fault("Policy::backoff"))
            .or_else(|| self.save_backoff.fault("Policy::save_backoff"))
            .or_else(|| self.restarts.fault())
    }

    fn bound_fault(&self) -> Option<Fault> {
        zero(&[
            (self.max_sessions == 0, "Policy::max_sessions"),
            (self.max_resident == 0, "Policy::max_resident"),
            (self.max_sessions_per_tenant == 0, "Policy::max_sessions_per_tenant"),
            (self.max_waiters == 0, "Policy::max_waiters"),
            (self.max_queued_grants == 0, "Policy::max_queued_grants"),
            (self.events == 0, "Policy::events"),
        ])
    }

    fn zero_fault(&self) -> Option<Fault> {
        zero(&[
            (self.call_timeout.is_zero(), "Policy::call_timeout"),
            (self.attempt_budget.is_zero(), "Policy::attempt_budget"),
            (self.answer_timeout.is_zero(), "Policy::answer_timeout"),
            (self.save_timeout.is_zero(), "Policy::save_timeout"),
            (self.store_timeout.is_zero(), "Policy::store_timeout"),
            (self.source_timeout.is_zero(), "Policy::source_timeout"),
            (self.challenge_ttl.is_zero(), "Policy::challenge_ttl"),
            (self.login_ttl.is_zero(), "Policy::login_ttl"),
        ])
    }

    fn endless_fault(&self) -> Option<Fault> {
        endless(&[
            (self.call_timeout, "Policy::call_timeout"),
            (self.attempt_budget, "Policy::attempt_budget"),
            (self.answer_timeout, "Policy::answer_timeout"),
            (self.save_timeout, "Policy::save_timeout"),
            (self.store_timeout, "Policy::store_timeout"),
            (self.source_timeout, "Policy::source_timeout"),
            (self.lease, "Policy::lease"),
            (self.takeover_grace, "Policy::takeover_grace"),
            (self.journal_hold, "Policy::journal_hold"),
            (self.challenge_ttl, "Policy::challenge_ttl"),
            (self.login_ttl, "Policy::login_ttl"),
            (self.keep_ended, "Policy::keep_ended"),
        ])
    }

    fn retention_fault(&self) -> Option<Fault> {
        let is_short = self.keep_ended < ENDED_KEPT_AT_LEAST;
        is_short.then(|| "`Policy::keep_ended` is below 1 h; set a longer time".to_owned())
    }

    fn exchange_fault(&self) -> Option<Fault> {
        let Self { attempt_budget, answer_timeout, lease, takeover_grace, .. } = self;
        let repeats = (*attempt_budget < self.min_repeat_time).then_some(
            "`Policy::attempt_budget` is below `Policy::min_repeat_time`; raise the one or lower \
             the other",
        );
        let claims = (lease.saturating_add(*takeover_grace)
            < answer_timeout.saturating_add(SAVE_MARGIN))
        .then_some(
            "`Policy::lease` and `Policy::takeover_grace` together are less than \
             `Policy::answer_timeout` plus 5 s; raise them, or lower it",
        );
        repeats
            .map(Fault::from)
            .or_else(|| zero(&[(lease.is_zero(), "Policy::lease")]))
            .or_else(|| claims.map(Fault::from))
    }
}

impl Backoff {
    fn fault(&self, field: &'static str) -> Option<Fault> {
        let fault = first(&[
            (self.base.is_zero(), "a base of zero; set a longer base"),
            (self.base > self.cap, "a base above its cap; lower the base or raise the cap"),
        ])?;
        Some(format!("`{field}` has {fault}"))
    }
}

impl Restarts {
    fn fault(&self) -> Option<Fault> {
        let Self { within, backoff, supervisor_backoff, quarantine, .. } = self;
        zero(&[(within.is_zero(), "Restarts::within")])
            .or_else(|| endless(&[(quarantine.cap, "Restarts::quarantine")]))
            .or_else(|| backoff.fault("Restarts::backoff"))
            .or_else(|| supervisor_backoff.fault("Restarts::supervisor_backoff"))
            .or_else(|| quarantine.fault("Restarts::quarantine"))
    }
}

impl RefreshPolicy {
    /// The first value of this policy that cannot work, if there is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let unclassified = &self.unclassified;
        let due = (self.at_least > self.at_most).then_some(
            "`RefreshPolicy::at_least` is above `RefreshPolicy::at_most`; lower the one or raise \
             the other",
        );
        let lost = (unclassified.alone < unclassified.span).then_some(
            "`RefreshPolicy::unclassified` has `alone` below `span`; raise the one or lower the \
             other",
        );
        no_part(&[
            (self.fraction, "RefreshPolicy::fraction"),
            (self.jitter, "RefreshPolicy::jitter"),
        ])
        .or_else(|| due.map(Fault::from))
        .or_else(|| {
            zero(&[
                (unclassified.count == 0, "RefreshPolicy::unclassified.count"),
                (unclassified.retry.is_zero(), "RefreshPolicy::unclassified.retry"),
            ])
        })
        .or_else(|| lost.map(Fault::from))
    }
}

impl ProviderLimits {
    /// The first of these bounds that cannot work, if there is one.
    pub(crate) fn fault(&self) -> Option<Fault> {
        zero(&[
            (self.exchanges == 0, "ProviderLimits::exchanges"),
            (self.slow_requests == 0, "ProviderLimits::slow_requests"),
            (self.admission_timeout.is_zero(), "ProviderLimits::admission_timeout"),
            (self.probe.is_zero(), "ProviderLimits::probe"),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::super::UnclassifiedAnswers;
    use super::*;

    const ZERO: Duration = Duration::ZERO;
    const SECOND: Duration = Duration::from_secs(1);
    const ENDLESS: Duration = Duration::MAX;

    /// Policies that cannot work, each with the name of the field that the fault must name.
    fn policies() -> Vec<(&'static str, Policy)> {
        let base = Policy::default;
        let crossed = Backoff { base: SECOND, cap: SECOND / 2 };
        let of = |restarts| Policy { restarts, ..base() };
        let usual = Restarts::default;
        vec![
            ("max_sessions", Policy { max_sessions: 0, ..base() }),
            ("max_sessions_per_tenant", Policy { max_sessions_per_tenant: 0, ..base() }),
            ("max_waiters", Policy { max_waiters: 0, ..base() }),
            ("max_queued_grants", Policy { max_queued_grants: 0, ..base() }),
            ("events", Policy { events: 0, ..base() }),
            ("call_timeout", Policy { call_timeout: ZERO, ..base() }),
            ("call_timeout", Policy { call_timeout: ENDLESS, ..base() }),
            ("save_timeout", Policy { save_timeout: ZERO, ..base() }),
            ("save_timeout", Policy { save_timeout: ENDLESS, ..base() }),
            ("store_timeout", Policy { store_timeout: ZERO, ..base() }),
            ("store_timeout", Policy { store_timeout: ENDLESS, ..base() }),
            ("source_timeout", Policy { source_timeout: ZERO, ..base() }),
            ("source_timeout", Policy { source_timeout: ENDLESS, ..base() }),
            ("challenge_ttl", Policy { challenge_ttl: ZERO, ..base() }),
            ("challenge_ttl", Policy { challenge_ttl: ENDLESS, ..base() }),
            ("login_ttl", Policy { login_ttl: ZERO, ..base() }),
            ("login_ttl", Policy { login_ttl: ENDLESS, ..base() }),
            ("attempt_budget", Policy { attempt_budget: ZERO, ..base() }),
            ("attempt_budget", Policy { attempt_budget: ENDLESS, ..base() }),
            ("answer_timeout", Policy { answer_timeout: ZERO, ..base() }),
            ("answer_timeout", Policy { answer_timeout: ENDLESS, ..base() }),
            ("lease", Policy { lease: ENDLESS, ..base() }),
            ("takeover_grace", Policy { takeover_grace: ENDLESS, ..base() }),
            ("lease", Policy { lease: ZERO, takeover_grace: 65 * SECOND, ..base() }),
            ("lease", Policy { lease: 19 * SECOND, ..base() }),
            ("takeover_grace", Policy { takeover_grace: 44 * SECOND, ..base() }),
            ("answer_timeout", Policy { answer_timeout: 61 * SECOND, ..base() }),
            ("min_repeat_time", Policy { attempt_budget: SECOND, ..base() }),
            ("backoff", Policy { backoff: crossed, ..base() }),
            ("backoff", Policy { backoff: Backoff { base: ZERO, cap: SECOND }, ..base() }),
            ("save_backoff", Policy { save_backoff: crossed, ..base() }),
            ("within", of(Restarts { within: ZERO, ..usual() })),
            ("Restarts::backoff", of(Restarts { backoff: crossed, ..usual() })),
            ("supervisor_backoff", of(Restarts { supervisor_backoff: crossed, ..usual() })),
            ("quarantine", of(Restarts { quarantine: crossed, ..usual() })),
            (
                "quarantine",
                of(Restarts { quarantine: Backoff { base: SECOND, cap: ENDLESS }, ..usual() }),
            ),
        ]
    }

    fn refreshes() -> Vec<(&'static str, RefreshPolicy)> {
        let mut faults = Vec::new();
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1.1] {
            faults
                .push(("fraction", RefreshPolicy { fraction: number, ..RefreshPolicy::default() }));
            faults.push(("jitter", RefreshPolicy { jitter: number, ..RefreshPolicy::default() }));
        }
        let usual = UnclassifiedAnswers::default;
        let of = |unclassified| RefreshPolicy { unclassified, ..RefreshPolicy::default() };
        faults.extend([
            ("at_least", RefreshPolicy { at_least: ENDLESS, ..RefreshPolicy::default() }),
            ("count", of(UnclassifiedAnswers { count: 0, ..usual() })),
            ("retry", of(UnclassifiedAnswers { retry: ZERO, ..usual() })),
            ("alone", of(UnclassifiedAnswers { alone: ZERO, ..usual() })),
        ]);
        faults
    }

    #[test]
    fn a_policy_that_contradicts_itself_names_the_field() {
        for (field, policy) in policies() {
            let fault = policy.fault().unwrap_or_else(|| panic!("{field} is let through"));
            assert!(fault.contains(field), "{field}: {fault}");
        }
        assert_eq!(Policy::default().fault(), None);
    }

    #[test]
    fn a_refresh_policy_and_limits_that_contradict_themselves_name_the_field() {
        for (field, policy) in refreshes() {
            let fault = policy.fault().unwrap_or_else(|| panic!("{field} is let through"));
            assert!(fault.contains(field), "{field}: {fault}");
        }
        assert_eq!(RefreshPolicy::default().fault(), None);
        let base = ProviderLimits::default;
        for (field, limits) in [
            ("exchanges", ProviderLimits { exchanges: 0, ..base() }),
            ("slow_requests", ProviderLimits { slow_requests: 0, ..base() }),
            ("admission_timeout", ProviderLimits { admission_timeout: ZERO, ..base() }),
            ("probe", ProviderLimits { probe: ZERO, ..base() }),
        ] {
            assert!(limits.fault().is_some_and(|fault| fault.contains(field)), "{field}");
        }
        assert_eq!(base().fault(), None);
    }

    #[test]
    fn what_is_no_number_does_not_panic_where_it_is_used() {
        let policy = RefreshPolicy { fraction: f64::NAN, jitter: f64::NAN, ..Default::default() };
        assert!(policy.due_after(SECOND, f64::NAN) <= SECOND);
        let backoff = Backoff { base: SECOND, cap: SECOND };
        assert_eq!(backoff.wait(1, f64::NAN), SECOND / 10);
    }
}
