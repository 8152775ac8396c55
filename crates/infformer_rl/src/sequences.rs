//! Supervised sequences: tasks with one right answer that nobody gives who has forgotten the beginning, what is trained on
//! them, and the comparisons of the benchmark page.

pub mod task;
pub mod learner;
pub mod trainer;
pub mod benchmark;
