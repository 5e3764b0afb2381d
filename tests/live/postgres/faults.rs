//! PostgreSQL, the network to it and PgBouncer fail while supervisors work.

mod change_feed;
mod failover;
mod lost_answers;
mod openings;
mod partition;
mod restarts;
mod stopped_writer;
mod tls;
