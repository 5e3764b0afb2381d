//! What every state makes of every input. Inputs that are not named change nothing, start nothing
//! and tell nothing.
//!
//! Below each state stand inputs and, indented further, what they lead to. `active 2.7` has epoch
//! 2 and generation 7; a failure is followed by the wait and the number of tries. What is `over
//! [...]` goes on serving.

pub(super) const TABLE: &str = "
unloaded
    loaded
        -> active 4.9
    load failed
        -> unloaded, Store for 1 s after 1
    need, need renewable, need newer, need newer renewable, need vouched, establish, adopt, close
        stays; starts Load
    forget
        -> closing [vacant]; starts Forget
unloaded, cooling
    loaded
        -> active 4.9
    load failed
        -> unloaded, Store for 2 s after 2
    establish, adopt, close
        stays; starts Load
    forget
        -> closing [vacant, RetryLater for 5 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
vacant
    need renewable, need newer renewable, need vouched
        -> establishing over [vacant], renewal; starts Renew
    establish
        -> establishing over [vacant]; starts Establish
    adopt
        -> establishing over [vacant]; starts Adopt
    close
        -> closing [vacant]; starts Close
    forget
        -> closing [vacant]; starts Forget
    superseded, outdated
        -> unloaded
vacant, cooling
    establish
        -> establishing over [vacant, RetryLater for 5 s after 1]; starts Establish
    adopt
        -> establishing over [vacant, RetryLater for 5 s after 1]; starts Adopt
    close
        -> closing [vacant, RetryLater for 5 s after 1]; starts Close
    forget
        -> closing [vacant, RetryLater for 5 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
active, fresh
    need newer, need newer renewable
        -> refreshing [2.7]; starts Refresh
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign
active, due
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7]; starts Refresh
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign
active, expired
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7]; starts Refresh
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign
active, suspect
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7, suspect]; starts Refresh
    establish
        -> establishing over [active 2.7, suspect]; starts Establish
    adopt
        -> establishing over [active 2.7, suspect]; starts Adopt
    close
        -> closing [active 2.7, suspect]; starts Close
    forget
        -> closing [active 2.7, suspect]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, suspect, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, suspect, foreign
active, rejected
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7, rejected]; starts Refresh
    establish
        -> establishing over [active 2.7, rejected]; starts Establish
    adopt
        -> establishing over [active 2.7, rejected]; starts Adopt
    close
        -> closing [active 2.7, rejected]; starts Close
    forget
        -> closing [active 2.7, rejected]; starts Forget
    superseded, outdated
        -> unloaded
    dead
        -> lost 7 Revoked, rejected; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, rejected, foreign
active, foreign
    establish
        -> establishing over [active 2.7, foreign]; starts Establish
    adopt
        -> establishing over [active 2.7, foreign]; starts Adopt
    close
        -> closing [active 2.7, foreign]; starts Close
    forget
        -> closing [active 2.7, foreign]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected, foreign
    dead
        -> lost 7 Revoked, foreign; tells Lost(Revoked)
    reconfigured
        -> active 2.7
active, owed
    establish
        -> establishing over [active 2.7, owed 1]; starts Establish
    adopt
        -> establishing over [active 2.7, owed 1]; starts Adopt
    close
        -> closing [active 2.7, owed 1]; starts Close
    forget
        -> closing [active 2.7, owed 1]; starts Forget
    saved
        -> active 2.8; tells Saved
    saved suspect
        -> active 2.8, suspect; tells Saved
    owed
        -> active 2.7, owed 2
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected, owed 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign, owed 1
active, cooling
    establish
        -> establishing over [active 2.7, RetryLater for 5 s after 1]; starts Establish
    adopt
        -> establishing over [active 2.7, RetryLater for 5 s after 1]; starts Adopt
    close
        -> closing [active 2.7, RetryLater for 5 s after 1]; starts Close
    forget
        -> closing [active 2.7, RetryLater for 5 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected, RetryLater for 5 s after 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign, RetryLater for 5 s after 1
active, misconfigured
    establish
        -> establishing over [active 2.7, Misconfigured for 60 s after 1]; starts Establish
    adopt
        -> establishing over [active 2.7, Misconfigured for 60 s after 1]; starts Adopt
    close
        -> closing [active 2.7, Misconfigured for 60 s after 1]; starts Close
    forget
        -> closing [active 2.7, Misconfigured for 60 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected, Misconfigured for 60 s after 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured
        -> active 2.7
    reconfigured to another
        -> active 2.7, foreign
active, no refresh token
    need newer renewable
        -> establishing over [active 2.7], renewal; starts Renew
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign
active, no refresh token, rejected
    need, need newer
        -> lost 7 Rejected, rejected; tells Lost(Rejected)
    need renewable, need newer renewable, need vouched
        -> establishing over [active 2.7, rejected], renewal; starts Renew
    establish
        -> establishing over [active 2.7, rejected]; starts Establish
    adopt
        -> establishing over [active 2.7, rejected]; starts Adopt
    close
        -> closing [active 2.7, rejected]; starts Close
    forget
        -> closing [active 2.7, rejected]; starts Forget
    superseded, outdated
        -> unloaded
    dead
        -> lost 7 Revoked, rejected; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, rejected, foreign
active, no refresh token, ended
    need, need newer
        -> lost 7 RefreshExpired; tells Lost(RefreshExpired)
    need renewable, need newer renewable, need vouched
        -> establishing over [active 2.7], renewal; starts Renew
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign
active, refresh token ended
    need, need renewable, need newer, need vouched, tick
        -> lost 7 RefreshExpired; tells Lost(RefreshExpired)
    need newer renewable
        -> establishing over [lost 7 RefreshExpired], renewal; starts Renew; tells Lost(RefreshExpired)
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> active 2.7, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> active 2.7, foreign
doubt, early
    establish
        -> establishing over [in doubt 2.7, retry in 60 s (floor 0 s) after 1]; starts Establish
    adopt
        -> establishing over [in doubt 2.7, retry in 60 s (floor 0 s) after 1]; starts Adopt
    close
        -> closing [in doubt 2.7, retry in 60 s (floor 0 s) after 1]; starts Close
    forget
        -> closing [in doubt 2.7, retry in 60 s (floor 0 s) after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> in doubt 2.7, rejected, retry in 0 s (floor 0 s) after 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> in doubt 2.7, foreign, retry in 60 s (floor 0 s) after 1
doubt, misconfigured
    establish
        -> establishing over [in doubt 2.7, Misconfigured for 60 s after 1, retry in 60 s (floor 0 s) after 1]; starts Establish
    adopt
        -> establishing over [in doubt 2.7, Misconfigured for 60 s after 1, retry in 60 s (floor 0 s) after 1]; starts Adopt
    close
        -> closing [in doubt 2.7, Misconfigured for 60 s after 1, retry in 60 s (floor 0 s) after 1]; starts Close
    forget
        -> closing [in doubt 2.7, Misconfigured for 60 s after 1, retry in 60 s (floor 0 s) after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> in doubt 2.7, rejected, Misconfigured for 60 s after 1, retry in 0 s (floor 0 s) after 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured
        -> in doubt 2.7, retry in 0 s (floor 0 s) after 1
    reconfigured to another
        -> in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1
doubt, ripe
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7, retry in 0 s (floor 0 s) after 1]; starts Refresh
    establish
        -> establishing over [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Establish
    adopt
        -> establishing over [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Adopt
    close
        -> closing [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Close
    forget
        -> closing [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> in doubt 2.7, rejected, retry in 0 s (floor 0 s) after 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1
doubt, hurry
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7, retry in 0 s (floor 0 s) after 1, hurry]; starts Refresh
    establish
        -> establishing over [in doubt 2.7, retry in 0 s (floor 0 s) after 1, hurry]; starts Establish
    adopt
        -> establishing over [in doubt 2.7, retry in 0 s (floor 0 s) after 1, hurry]; starts Adopt
    close
        -> closing [in doubt 2.7, retry in 0 s (floor 0 s) after 1, hurry]; starts Close
    forget
        -> closing [in doubt 2.7, retry in 0 s (floor 0 s) after 1, hurry]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> in doubt 2.7, rejected, retry in 0 s (floor 0 s) after 1, hurry
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1, hurry
doubt, foreign
    establish
        -> establishing over [in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1]; starts Establish
    adopt
        -> establishing over [in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1]; starts Adopt
    close
        -> closing [in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1]; starts Close
    forget
        -> closing [in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> in doubt 2.7, rejected, foreign, retry in 0 s (floor 0 s) after 1
    dead
        -> lost 7 Revoked, foreign; tells Lost(Revoked)
    reconfigured
        -> in doubt 2.7, retry in 0 s (floor 0 s) after 1
doubt, refresh token ended
    need, need renewable, need newer, need vouched, tick
        -> lost 7 RefreshExpired; tells Lost(RefreshExpired)
    need newer renewable
        -> establishing over [lost 7 RefreshExpired], renewal; starts Renew; tells Lost(RefreshExpired)
    establish
        -> establishing over [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Establish
    adopt
        -> establishing over [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Adopt
    close
        -> closing [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Close
    forget
        -> closing [in doubt 2.7, retry in 0 s (floor 0 s) after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> in doubt 2.7, rejected, retry in 0 s (floor 0 s) after 1
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> in doubt 2.7, foreign, retry in 0 s (floor 0 s) after 1
lost, serving
    need newer renewable
        -> establishing over [lost 7 RefreshExpired], renewal; starts Renew
    establish
        -> establishing over [lost 7 RefreshExpired]; starts Establish
    adopt
        -> establishing over [lost 7 RefreshExpired]; starts Adopt
    close
        -> closing [lost 7 RefreshExpired]; starts Close
    forget
        -> closing [lost 7 RefreshExpired]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> lost 7 RefreshExpired, rejected
    dead
        -> lost 7 Revoked; tells Lost(Revoked)
    reconfigured to another
        -> lost 7 RefreshExpired, foreign
lost
    need renewable, need newer renewable, need vouched
        -> establishing over [lost 7 Rejected], renewal; starts Renew
    establish
        -> establishing over [lost 7 Rejected]; starts Establish
    adopt
        -> establishing over [lost 7 Rejected]; starts Adopt
    close
        -> closing [lost 7 Rejected]; starts Close
    forget
        -> closing [lost 7 Rejected]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> lost 7 Rejected, rejected
    reconfigured to another
        -> lost 7 Rejected, foreign
lost, cooling
    establish
        -> establishing over [lost 7 Rejected, RetryLater for 5 s after 1]; starts Establish
    adopt
        -> establishing over [lost 7 Rejected, RetryLater for 5 s after 1]; starts Adopt
    close
        -> closing [lost 7 Rejected, RetryLater for 5 s after 1]; starts Close
    forget
        -> closing [lost 7 Rejected, RetryLater for 5 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> lost 7 Rejected, rejected, RetryLater for 5 s after 1
    reconfigured to another
        -> lost 7 Rejected, foreign, RetryLater for 5 s after 1
closed
    need vouched
        -> establishing over [closed 7], renewal; starts Renew
    establish
        -> establishing over [closed 7]; starts Establish
    adopt
        -> establishing over [closed 7]; starts Adopt
    close
        -> closing [closed 7]; starts Close
    forget
        -> closing [closed 7]; starts Forget
    superseded, outdated
        -> unloaded
lost by an operation
    establish
        -> establishing over [lost 7 TokensDeleted]; starts Establish
    adopt
        -> establishing over [lost 7 TokensDeleted]; starts Adopt
    close
        -> closing [lost 7 TokensDeleted]; starts Close
    forget
        -> closing [lost 7 TokensDeleted]; starts Forget
    superseded, outdated
        -> unloaded
    401, dead
        -> lost 7 TokensDeleted, rejected
    reconfigured to another
        -> lost 7 TokensDeleted, foreign
closed, not begun again
    establish
        -> establishing over [closed 7, RetryLater for 5 s after 1]; starts Establish
    adopt
        -> establishing over [closed 7, RetryLater for 5 s after 1]; starts Adopt
    close
        -> closing [closed 7, RetryLater for 5 s after 1]; starts Close
    forget
        -> closing [closed 7, RetryLater for 5 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
closed, to be told
    need vouched
        -> establishing over [closed 7, to be told], renewal; starts Renew
    establish
        -> establishing over [closed 7, to be told]; starts Establish
    adopt
        -> establishing over [closed 7, to be told]; starts Adopt
    close
        -> closing [closed 7, to be told]; starts Close
    forget
        -> closing [closed 7, to be told]; starts Forget
    superseded, outdated
        -> unloaded
    tick
        -> revoking 7; starts Revoke
closed, cooling
    need vouched
        -> establishing over [closed 7, to be told, RetryLater for 5 s after 1], renewal; starts Renew
    establish
        -> establishing over [closed 7, to be told, RetryLater for 5 s after 1]; starts Establish
    adopt
        -> establishing over [closed 7, to be told, RetryLater for 5 s after 1]; starts Adopt
    close
        -> closing [closed 7, to be told, RetryLater for 5 s after 1]; starts Close
    forget
        -> closing [closed 7, to be told, RetryLater for 5 s after 1]; starts Forget
    superseded, outdated
        -> unloaded
challenged over vacant
    establish
        -> establishing over [vacant]; starts Establish
    adopt
        -> establishing over [vacant]; starts Adopt
    close
        -> closing [vacant]; starts Close
    forget
        -> closing [vacant]; starts Forget
    superseded, outdated
        -> unloaded
challenged over fresh
    need newer, need newer renewable
        -> refreshing [2.7]; starts Refresh
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> challenged over [active 2.7, rejected]
    dead
        -> challenged over [lost 7 Revoked]; tells Lost(Revoked)
    reconfigured to another
        -> challenged over [active 2.7, foreign]
challenged over due
    need, need renewable, need newer, need newer renewable, need vouched
        -> refreshing [2.7]; starts Refresh
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> challenged over [active 2.7, rejected]
    dead
        -> challenged over [lost 7 Revoked]; tells Lost(Revoked)
    reconfigured to another
        -> challenged over [active 2.7, foreign]
challenged over closed
    establish
        -> establishing over [closed 7, to be told]; starts Establish
    adopt
        -> establishing over [closed 7, to be told]; starts Adopt
    close
        -> closing [closed 7, to be told]; starts Close
    forget
        -> closing [closed 7, to be told]; starts Forget
    superseded, outdated
        -> unloaded
challenged over fresh, ended
    need newer, need newer renewable
        -> refreshing [2.7]; starts Refresh
    establish
        -> establishing over [active 2.7]; starts Establish
    adopt
        -> establishing over [active 2.7]; starts Adopt
    close
        -> closing [active 2.7]; starts Close
    forget
        -> closing [active 2.7]; starts Forget
    superseded, outdated
        -> unloaded
    401
        -> challenged over [active 2.7, rejected]
    dead
        -> challenged over [lost 7 Revoked]; tells Lost(Revoked)
    reconfigured to another
        -> challenged over [active 2.7, foreign]
    tick
        -> active 2.7
grant over vacant
    issued
        -> establishing over [vacant], answered 2.8
    challenged
        -> challenged over [vacant]
    harmless, invalid, misconfigured, ambiguous now, ambiguous late, rejected, refused
        -> vacant
    overdue
        -> establishing over [vacant], overdue
    superseded
        -> unloaded
grant over vacant, answered
    issued
        -> establishing over [vacant], answered 2.8
    challenged
        -> challenged over [vacant]
    harmless, invalid, misconfigured, ambiguous now, ambiguous late, rejected, refused, owed
        -> active 3.8, owed 1; tells Established; tells SaveOwed
    overdue
        -> establishing over [vacant], answered 3.8, overdue
    saved
        -> active 2.8; tells Established
    saved suspect
        -> active 2.8, suspect; tells Established
    superseded
        -> unloaded
grant over fresh
    issued
        -> establishing over [active 2.7], answered 2.8
    challenged
        -> challenged over [active 2.7]
    harmless, invalid, misconfigured, rejected, refused
        -> active 2.7
    ambiguous now, ambiguous late
        -> active 2.7, suspect
    overdue
        -> establishing over [active 2.7], overdue
    superseded
        -> unloaded
    401
        -> establishing over [active 2.7, rejected]
    dead
        -> establishing over [lost 7 Revoked]; tells Lost(Revoked)
    reconfigured to another
        -> establishing over [active 2.7, foreign]
grant over fresh, answered
    issued
        -> establishing over [active 2.7], answered 2.8
    challenged
        -> challenged over [active 2.7]
    harmless, invalid, misconfigured, ambiguous now, ambiguous late, rejected, refused, owed
        -> active 3.8, owed 1; tells Established; tells SaveOwed
    overdue
        -> establishing over [active 2.7], answered 3.8, overdue
    saved
        -> active 2.8; tells Established
    saved suspect
        -> active 2.8, suspect; tells Established
    superseded
        -> unloaded
    401
        -> establishing over [active 2.7, rejected], answered 3.8
    dead
        -> establishing over [lost 7 Revoked], answered 3.8; tells Lost(Revoked)
    reconfigured to another
        -> establishing over [active 2.7, foreign], answered 3.8
grant over fresh, overdue
    issued
        -> establishing over [active 2.7], answered 2.8, overdue
    challenged
        -> challenged over [active 2.7]
    harmless, invalid, misconfigured, rejected, refused
        -> active 2.7
    ambiguous now, ambiguous late
        -> active 2.7, suspect
    superseded
        -> unloaded
    401
        -> establishing over [active 2.7, rejected], overdue
    dead
        -> establishing over [lost 7 Revoked], overdue; tells Lost(Revoked)
    reconfigured to another
        -> establishing over [active 2.7, foreign], overdue
renewal over vacant
    issued
        -> establishing over [vacant], renewal, answered 2.8
    challenged
        -> challenged over [vacant]
    harmless, invalid, ambiguous now, ambiguous late, rejected, refused
        -> vacant, RetryLater for 1 s after 1
    misconfigured
        -> vacant, Misconfigured for 1 s after 1
    overdue
        -> establishing over [vacant], renewal, overdue
    superseded
        -> unloaded
renewal over vacant, overdue
    issued
        -> establishing over [vacant], renewal, answered 2.8, overdue
    challenged
        -> challenged over [vacant]
    harmless, invalid, ambiguous now, ambiguous late, rejected, refused
        -> vacant, RetryLater for 1 s after 1
    misconfigured
        -> vacant, Misconfigured for 1 s after 1
    superseded
        -> unloaded
renewal over fresh
    issued
        -> establishing over [active 2.7], renewal, answered 2.8
    challenged
        -> challenged over [active 2.7]
    harmless, invalid, ambiguous now, ambiguous late, rejected, refused
        -> active 2.7, RetryLater for 1 s after 1
    misconfigured
        -> active 2.7, Misconfigured for 1 s after 1
    overdue
        -> establishing over [active 2.7], renewal, overdue
    superseded
        -> unloaded
    401
        -> establishing over [active 2.7, rejected], renewal
    dead
        -> establishing over [lost 7 Revoked], renewal; tells Lost(Revoked)
    reconfigured to another
        -> establishing over [active 2.7, foreign], renewal
renewal over fresh, answered
    issued
        -> establishing over [active 2.7], renewal, answered 2.8
    challenged
        -> challenged over [active 2.7]
    harmless, invalid, misconfigured, ambiguous now, ambiguous late, rejected, refused, owed
        -> active 3.8, owed 1; tells Established; tells SaveOwed
    overdue
        -> establishing over [active 2.7], renewal, answered 3.8, overdue
    saved
        -> active 2.8; tells Established
    saved suspect
        -> active 2.8, suspect; tells Established
    superseded
        -> unloaded
    401
        -> establishing over [active 2.7, rejected], renewal, answered 3.8
    dead
        -> establishing over [lost 7 Revoked], renewal, answered 3.8; tells Lost(Revoked)
    reconfigured to another
        -> establishing over [active 2.7, foreign], renewal, answered 3.8
refreshing
    issued
        -> refreshing [2.7], answered 2.8
    harmless, invalid
        -> active 2.7, RetryLater for 1 s after 1
    misconfigured
        -> active 2.7, Misconfigured for 1 s after 1
    ambiguous now
        -> in doubt 2.7, retry in 0 s (floor 0 s) after 1, hurry; tells InDoubt
    ambiguous late
        -> in doubt 2.7, retry in 890 s (floor 20 s) after 1; tells InDoubt
    rejected, refused
        -> lost 7 Rejected; tells Lost(Rejected)
    overdue
        -> refreshing [2.7], overdue
    superseded
        -> unloaded
    401, dead
        -> refreshing [2.7, rejected]
    reconfigured to another
        -> refreshing [2.7, foreign]
refreshing in doubt
    issued
        -> refreshing [2.7, retry in 0 s (floor 0 s) after 1], answered 2.8
    harmless, invalid
        -> in doubt 2.7, RetryLater for 1 s after 1, retry in 1 s (floor 1 s) after 1
    misconfigured
        -> in doubt 2.7, Misconfigured for 1 s after 1, retry in 1 s (floor 1 s) after 1
    ambiguous now
        -> in doubt 2.7, retry in 2 s (floor 2 s) after 2
    ambiguous late
        -> in doubt 2.7, retry in 20 s (floor 20 s) after 2
    rejected, refused
        -> lost 7 LostInDoubt; tells Lost(LostInDoubt)
    overdue
        -> refreshing [2.7, retry in 0 s (floor 0 s) after 1], overdue
    superseded
        -> unloaded
    401, dead
        -> refreshing [2.7, rejected, retry in 0 s (floor 0 s) after 1]
    reconfigured to another
        -> refreshing [2.7, foreign, retry in 0 s (floor 0 s) after 1]
refreshing, answered
    harmless, invalid, misconfigured, ambiguous now, ambiguous late, rejected, refused, owed
        -> active 2.8, owed 1; tells Refreshed; tells SaveOwed
    overdue
        -> refreshing [2.7], answered 2.8, overdue
    saved
        -> active 2.8; tells Refreshed
    saved suspect
        -> active 2.8, suspect; tells Refreshed
    superseded
        -> unloaded
    401, dead
        -> refreshing [2.7, rejected], answered 2.8
    reconfigured to another
        -> refreshing [2.7, foreign], answered 2.8
refreshing, overdue
    issued
        -> refreshing [2.7], answered 2.8, overdue
    harmless, invalid
        -> active 2.7, RetryLater for 1 s after 1
    misconfigured
        -> active 2.7, Misconfigured for 1 s after 1
    ambiguous now
        -> in doubt 2.7, retry in 0 s (floor 0 s) after 1, hurry; tells InDoubt
    ambiguous late
        -> in doubt 2.7, retry in 890 s (floor 20 s) after 1; tells InDoubt
    rejected, refused
        -> lost 7 Rejected; tells Lost(Rejected)
    superseded
        -> unloaded
    401, dead
        -> refreshing [2.7, rejected], overdue
    reconfigured to another
        -> refreshing [2.7, foreign], overdue
closing vacant
    superseded, forget failed
        -> unloaded
    closed
        -> closed 8; tells Revoked
    closed with outbox
        -> revoking 8; starts Revoke; tells Revoked
    close failed
        -> vacant
    forgotten
        -> vacant; tells Forgotten
closing fresh
    superseded
        -> unloaded
    closed
        -> closed 8; tells Revoked
    closed with outbox
        -> revoking 8; starts Revoke; tells Revoked
    close failed, forget failed
        -> active 2.7
    forgotten
        -> vacant; tells Forgotten
    401
        -> closing [active 2.7, rejected]
    dead
        -> closing [lost 7 Revoked]; tells Lost(Revoked)
    reconfigured to another
        -> closing [active 2.7, foreign]
revoking
    superseded
        -> unloaded
    told
        -> closed 7
    untold
        -> closed 7, to be told, RetryLater for 9 s after 1
";
