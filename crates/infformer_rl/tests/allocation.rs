//! Stepping an environment allocates nothing, and neither does a batch of them once it has seen its longest episode.
#![allow(clippy::unwrap_used)]

mod playing;

use infformer_rl::environment::Ending;
use infformer_rl::environment_batch::EnvironmentBatch;
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::policy::Spaces;
use playing::{act, choices};

#[test]
fn a_step_allocates_nothing() {
    for config in EnvironmentConfig::all() {
        let mut environment = config.make();
        environment.reset(1);
        let (mut ticks, choices) = (0, choices(environment.as_ref()));
        let counted = allocation_counter::measure(|| {
            while act(environment.as_mut(), ticks * 7 % choices).ending == Ending::Running {
                ticks += 1;
            }
        });
        assert_eq!(counted.count_total, 0, "{}, {ticks} steps", config.name());
        assert!(ticks > 0, "{}", config.name());
    }
}

#[test]
fn a_batch_allocates_nothing_after_its_longest_episode() {
    // Every episode of these is as long as the others; they begin anew within the measured ticks.
    for name in ["repeat-previous-easy", "count-recall-easy", "multiarmed-bandit-easy"] {
        let config = EnvironmentConfig::parse(name).unwrap();
        let make = move || config.make();
        let spaces = Spaces::of(&*make(), Some(256));
        let mut batch = EnvironmentBatch::new(&make, spaces, 4, 1).unwrap();
        let actions = [0.0; 4];
        (0..500).for_each(|_| _ = batch.step(&actions).unwrap());
        let counted = allocation_counter::measure(|| (0..500).for_each(|_| _ = batch.step(&actions).unwrap()));
        assert_eq!(counted.count_total, 0, "{name}");
    }
}
