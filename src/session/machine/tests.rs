//! The machine, pair by pair, rule by rule, and at random.

mod damping;
mod external_change;
mod in_doubt;
mod random;
mod rules;
mod sample;
mod table;
mod unclassified;
mod world;
