//! The machine, pair by pair, rule by rule, and at random.

mod damping;
mod in_doubt;
mod news;
mod random;
mod rules;
mod sample;
mod table;
mod unclassified;
mod world;
