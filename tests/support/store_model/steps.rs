//! What may happen to two sessions.

use proptest::prelude::*;
use session_warden::error::LostReason;
use session_warden::store::{Intent, SettleTo};

use super::HANDLES;

/// What is asked. Counters are those of the record, less `stale`, so that most statements fit and
/// some come late.
#[derive(Clone, Debug)]
pub enum Step {
    Claim {
        intent: Intent,
        owner: u64,
        stale: u64,
        own: bool,
    },
    Renew {
        attempt: usize,
    },
    Commit {
        attempt: usize,
    },
    Settle {
        attempt: usize,
        to: SettleTo,
    },
    TakeOver {
        attempt: usize,
    },
    Close {
        stale: u64,
    },
    Lose {
        stale: u64,
        reason: LostReason,
    },
    Suspect {
        stale: u64,
    },
    Reschedule {
        stale: u64,
        announced: bool,
    },
    Restore {
        ahead: u64,
    },
    Import {
        ahead: u64,
        again: bool,
    },
    Delete,
    /// Removes the session if it ended so many seconds ago.
    RemoveEnded(u64),
    /// A statement of this session once more, by how many were sent after it.
    Again {
        back: usize,
    },
    /// A supervisor ends. Another one gets its number.
    Retire {
        owner: u64,
    },
    Later(u64),
    Reopen,
}

/// A step, and who takes it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which of two sessions it is about.
    pub session: usize,
    /// Through which handle of a database it goes.
    pub handle: usize,
    /// Whether the handle loads the record first. Otherwise it knows what it saw last.
    pub looks: bool,
    /// Whether the answer to what it writes is lost, and it is sent again.
    pub is_lost: bool,
    pub step: Step,
}

/// Random walks, of which about half are by one process after the other.
pub fn walks() -> impl Strategy<Value = Vec<Asked>> {
    let is_lost = prop_oneof![9 => Just(false), 1 => Just(true)];
    let asked = (0..2_usize, 0..HANDLES, any::<bool>(), is_lost, step());
    let asked = asked.prop_map(|(session, handle, looks, is_lost, step)| Asked {
        session,
        handle,
        looks,
        is_lost,
        step,
    });
    proptest::collection::vec(asked, 1..60)
}

fn step() -> impl Strategy<Value = Step> {
    let intent = prop_oneof![
        3 => Just(Intent::Establish), 3 => Just(Intent::Refresh), 1 => Just(Intent::Revoke)
    ];
    let reason = || {
        prop_oneof![
            Just(LostReason::Rejected),
            Just(LostReason::Unclassified),
            Just(LostReason::SessionDeleted),
        ]
    };
    let to = prop_oneof![
        Just(SettleTo::Before),
        Just(SettleTo::BeforeSuspect),
        Just(SettleTo::InDoubt),
        reason().prop_map(SettleTo::Lost),
        Just(SettleTo::Revoked),
    ];
    // Which attempt, from the newest.
    let attempt = prop_oneof![8 => Just(0_usize), 2 => 0..4_usize];
    let stale = prop_oneof![8 => Just(0_u64), 2 => 0..3_u64];
    let claim = (intent, 1..3_u64, stale.clone(), any::<bool>())
        .prop_map(|(intent, owner, stale, own)| Step::Claim { intent, owner, stale, own });
    prop_oneof![
        6 => claim,
        2 => attempt.clone().prop_map(|attempt| Step::Renew { attempt }),
        5 => attempt.clone().prop_map(|attempt| Step::Commit { attempt }),
        3 => (attempt.clone(), to).prop_map(|(attempt, to)| Step::Settle { attempt, to }),
        2 => attempt.prop_map(|attempt| Step::TakeOver { attempt }),
        1 => stale.clone().prop_map(|stale| Step::Close { stale }),
        1 => (stale.clone(), reason()).prop_map(|(stale, reason)| Step::Lose { stale, reason }),
        1 => stale.clone().prop_map(|stale| Step::Suspect { stale }),
        1 => (stale, any::<bool>())
            .prop_map(|(stale, announced)| Step::Reschedule { stale, announced }),
        1 => (0..4_u64).prop_map(|ahead| Step::Restore { ahead }),
        1 => (0..5_u64, any::<bool>()).prop_map(|(ahead, again)| Step::Import { ahead, again }),
        1 => Just(Step::Delete),
        1 => (0..60_u64).prop_map(Step::RemoveEnded),
        2 => (1..30_u64).prop_map(Step::Later),
        1 => Just(Step::Reopen),
        2 => prop_oneof![4 => Just(0_usize), 1 => 1..5_usize]
            .prop_map(|back| Step::Again { back }),
        1 => (1..3_u64).prop_map(|owner| Step::Retire { owner }),
    ]
}
