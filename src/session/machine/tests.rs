//! The machine, pair by pair, rule by rule, and at random.

mod damping;
mod external_change;
mod former_token;
mod in_doubt;
mod random;
mod rules;
mod sample;
mod table;
mod unclassified;
mod world;
