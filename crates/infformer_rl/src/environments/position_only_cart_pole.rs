//! A pole on a cart, seen without its velocities.
//!
//! The cart (1 kg) stands on a line and is pushed to the left (0) or to the right (1) with 10 N; a pole of 0.1 kg, 1 m
//! long, stands on it on a hinge, under 9.8 m/s². The cart's position x, its velocity, the pole's angle θ from
//! upright and the angular velocity begin uniformly within ±.05 and go on by Euler steps of .02 s. The observation is
//! x and θ. Every step gives 1/T, also the last; T = 200, 400 or 600 (easy, medium, hard). The episode ends when
//! |x| > 2.4 m or |θ| > 12° and is cut off after T steps.
//!
//! PositionOnlyCartPole of POPGym (Morad et al., ICLR 2023), with the physics of Gymnasium's CartPole after Barto,
//! Sutton and Anderson (1983).

use super::{Difficulty, after_the_end};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use infformer::model::Input;
use infformer::{Channel, Scale};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::f64::consts::PI;

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = 1.0 + POLE_MASS;
/// Half of the pole, m.
const HALF_LENGTH: f64 = 0.5;
const FORCE: f64 = 10.0;
const SECONDS: f64 = 0.02;
const FARTHEST: f64 = 2.4;
const STEEPEST: f64 = 12.0 * 2.0 * PI / 360.0;
/// Each number of the first state lies within plus and minus this.
const BEGINNING: f64 = 0.05;
/// No state of a beginning falls sooner: a push in one direction from the steepest and fastest takes so many steps.
const FEWEST_STEPS: f64 = 8.0;
const ACTIONS: usize = 2;

/// A pole on a cart, without velocities.
#[derive(Debug, Clone)]
pub struct PositionOnlyCartPole {
    /// x, its velocity, θ, its velocity.
    state: [f64; 4],
    length: usize,
    time: usize,
    observation: [f32; 2],
    over: bool,
}

impl PositionOnlyCartPole {
    /// A cart that does not stand anywhere yet.
    pub fn new(difficulty: Difficulty) -> Self {
        let length = difficulty.among([200, 400, 600]);
        Self { state: [0.0; 4], length, time: 0, observation: [0.0; 2], over: true }
    }

    /// Begins an episode with this state: x, its velocity, θ, its velocity.
    pub fn set(&mut self, state: [f64; 4]) -> &[f32] {
        (self.state, self.time, self.over) = (state, 0, false);
        self.show();
        &self.observation
    }

    fn show(&mut self) {
        self.observation = [self.state[0] as f32, self.state[2] as f32];
    }

    /// In the order of the source: the pole doubles every rounding in a few steps.
    fn push(&mut self, force: f64) {
        let [x, velocity, angle, turning] = self.state;
        let (sine, cosine) = angle.sin_cos();
        let pushed = (force + POLE_MASS * HALF_LENGTH * (turning * turning) * sine) / TOTAL_MASS;
        let inertia = HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / TOTAL_MASS);
        let turning_change = (GRAVITY * sine - cosine * pushed) / inertia;
        let velocity_change = pushed - POLE_MASS * HALF_LENGTH * turning_change * cosine / TOTAL_MASS;
        self.state = [
            x + SECONDS * velocity,
            velocity + SECONDS * velocity_change,
            angle + SECONDS * turning,
            turning + SECONDS * turning_change,
        ];
    }
}

impl Environment for PositionOnlyCartPole {
    fn observations(&self) -> Vec<Input> {
        let position = Channel::new("x", "m", Scale::Given(FARTHEST as f32));
        let angle = Channel::new("angle", "rad", Scale::Given(STEEPEST as f32));
        vec![Input::Continuous { name: "cart_pole".into(), channels: vec![position, angle] }]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(ACTIONS)
    }

    fn returns(&self) -> [f64; 2] {
        [FEWEST_STEPS / self.length as f64, 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        self.set([(); 4].map(|()| random.random_range(-BEGINNING..BEGINNING)))
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        self.push(if action.choice(ACTIONS) == 1 { FORCE } else { -FORCE });
        self.time += 1;
        self.show();
        let ending = if self.state[0].abs() > FARTHEST || self.state[2].abs() > STEEPEST {
            Ending::Terminated
        } else if self.time == self.length {
            Ending::Truncated
        } else {
            Ending::Running
        };
        self.over = ending != Ending::Running;
        Step { observation: &self.observation, reward: 1.0 / self.length as f32, ending }
    }
}
