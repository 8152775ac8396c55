//! Actions of choices by one number, whether one thing is chosen at a time or several.

use infformer_rl::environment::{Action, ActionSpace, Environment, Step};

/// How many actions there are.
pub fn choices(environment: &dyn Environment) -> usize {
    environment.actions().choices().iter().product()
}

/// Takes one of them: row · columns + column where there are two places.
pub fn act(environment: &mut dyn Environment, action: usize) -> Step<'_> {
    match environment.actions() {
        ActionSpace::MultiDiscrete(&[_, columns]) => {
            environment.step(Action::MultiDiscrete(&[(action / columns) as f32, (action % columns) as f32]))
        }
        _ => environment.step(Action::Discrete(action)),
    }
}
