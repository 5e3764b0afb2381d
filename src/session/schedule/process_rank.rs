//! The rank of a process: which of several supervisors on one store checks a session first.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::key::SessionId;
use crate::policy::DUE_RANK;
use crate::store::Owner;

/// The supervisors that are alive, as the store sees them.
pub(crate) struct Ranks {
    own: Owner,
    all: ArcSwap<Vec<Owner>>,
}

impl Ranks {
    pub(crate) fn new(own: Owner) -> Self {
        Self { own, all: ArcSwap::default() }
    }

    /// Replaces the supervisors with those that are alive now.
    pub(crate) fn set(&self, all: &[Owner]) {
        if **self.all.load() != all {
            self.all.store(Arc::new(all.to_vec()));
        }
    }

    /// How long this supervisor waits before it checks a session that is due.
    ///
    /// A hash of supervisor and session orders the supervisors for each session (rendezvous
    /// hashing): all of them get the same order without communication, and when one stops, only its
    /// sessions move. If two supervisors disagree for a moment, both may check one session; the
    /// store then grants one claim.
    pub(crate) fn delay(&self, id: &SessionId) -> Duration {
        let own = weight(self.own, id);
        let before = |holder: &&Owner| **holder != self.own && weight(**holder, id) > own;
        let rank = self.all.load().iter().filter(before).count();
        DUE_RANK.saturating_mul(u32::try_from(rank).unwrap_or(u32::MAX))
    }
}

fn weight(holder: Owner, id: &SessionId) -> (u64, Owner) {
    let mut hasher = DefaultHasher::new();
    (holder, id.provider(), id).hash(&mut hasher);
    (hasher.finish(), holder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ProviderName, SessionKey};

    fn id(n: usize) -> SessionId {
        let key = SessionKey::new("tenant", format!("device-{n}")).unwrap();
        SessionId::new(ProviderName::new("p").unwrap(), key)
    }

    #[test]
    fn each_session_has_one_holder_that_is_first_and_all_agree_on_it() {
        let all = [Owner(1), Owner(2), Owner(3)];
        let mut first = [0; 3];
        for n in 0..300 {
            let mut delays: Vec<_> = Vec::new();
            for (at, own) in all.into_iter().enumerate() {
                let ranks = Ranks::new(own);
                ranks.set(&all);
                let delay = ranks.delay(&id(n));
                first[at] += usize::from(delay.is_zero());
                delays.push(delay.as_secs());
            }
            delays.sort_unstable();
            assert_eq!(delays, [0, 5, 10]);
        }
        assert!(first.iter().all(|first| (50..150).contains(first)), "{first:?}");
    }

    #[test]
    fn when_a_holder_goes_only_its_sessions_get_another_first_one() {
        let (mut moved, mut of_the_third) = (0, 0);
        for n in 0..300 {
            let is_first = |all: &[Owner], own| {
                let ranks = Ranks::new(own);
                ranks.set(all);
                ranks.delay(&id(n)).is_zero()
            };
            let (three, two) = ([Owner(1), Owner(2), Owner(3)], [Owner(1), Owner(2)]);
            of_the_third += usize::from(is_first(&three, Owner(3)));
            moved += usize::from(is_first(&three, Owner(1)) != is_first(&two, Owner(1)));
            moved += usize::from(is_first(&three, Owner(2)) != is_first(&two, Owner(2)));
        }
        assert_eq!(moved, of_the_third);
    }
}
