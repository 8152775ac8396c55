//! Many environments of one kind at once, each begun anew when it is over.

use crate::environment::{Ending, Environment};
use crate::policy::Spaces;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Makes environments of one kind.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Environment>;

/// A batch of environments, and what the policy sees of them.
pub struct EnvironmentBatch {
    environments: Vec<Box<dyn Environment>>,
    spaces: Spaces,
    seed: u64,
    /// What the policy sees next \[members, channels\].
    x: Vec<f32>,
    episodes: Vec<Episode>,
    /// What came of the last step, one a member.
    outcomes: Vec<Outcome>,
    /// What a member whose episode was cut off saw last \[members, channels\].
    last: Vec<f32>,
}

/// An episode under way: its seed and its actions tell all of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Episode {
    /// How many episodes of this member there were before.
    pub number: u64,
    /// All numbers of all actions so far.
    pub actions: Vec<f32>,
    /// Ticks so far.
    pub ticks: usize,
    /// Rewards so far.
    pub total: f64,
}

/// What came of one member's action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The reward.
    pub reward: f32,
    /// Whether the episode is over; the next tick is then the first of another.
    pub ending: Ending,
    /// Return and length of the episode, if it is over.
    pub finished: Option<(f64, usize)>,
}

impl EnvironmentBatch {
    /// `members` environments of these `spaces`, all at the beginning of an episode that follows from `seed`, member and number.
    pub fn new(make: Make, spaces: Spaces, members: usize, seed: u64) -> Self {
        let environments: Vec<_> = (0..members).map(|_| make()).collect();
        let nothing = Outcome { reward: 0.0, ending: Ending::Running, finished: None };
        let mut batch = Self {
            x: vec![0.0; members * spaces.channels()],
            last: vec![0.0; members * spaces.channels()],
            episodes: vec![Episode::default(); members],
            outcomes: vec![nothing; members],
            environments,
            spaces,
            seed,
        };
        (0..members).for_each(|member| batch.begin(member));
        batch
    }

    /// What the policy sees and does.
    pub fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// Members.
    pub fn members(&self) -> usize {
        self.environments.len()
    }

    /// What the policy sees now \[members, channels\].
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// Whether a member's episode begins with what it sees now.
    pub fn begins(&self, member: usize) -> bool {
        self.episodes[member].ticks == 0
    }

    /// Acts in all environments, `actions` \[members, size\]: choices as whole numbers.
    pub fn step(&mut self, actions: &[f32]) -> &[Outcome] {
        let (channels, size) = (self.spaces.channels(), self.spaces.action_size());
        for (member, action) in actions.chunks_exact(size).enumerate() {
            let row = member * channels..(member + 1) * channels;
            let x = &mut self.x[row.clone()];
            let step = self.environments[member].step(self.spaces.action(action));
            let (reward, ending) = (step.reward, step.ending);
            let episode = &mut self.episodes[member];
            self.spaces.write(step.observation, episode.ticks + 1, Some(action), x);
            episode.actions.extend_from_slice(action);
            episode.ticks += 1;
            episode.total += f64::from(reward);
            let over = (ending != Ending::Running).then_some((episode.total, episode.ticks));
            self.outcomes[member] = Outcome { reward, ending, finished: over };
            if over.is_some() {
                self.last[row.clone()].copy_from_slice(&self.x[row]);
                let number = episode.number + 1;
                // The actions' room is kept.
                episode.actions.clear();
                (episode.number, episode.ticks, episode.total) = (number, 0, 0.0);
                self.begin(member);
            }
        }
        &self.outcomes
    }

    /// What the policy would have seen of a member after its last step, had its episode gone on \[channels\].
    pub fn last_x(&self, member: usize) -> &[f32] {
        let channels = self.spaces.channels();
        &self.last[member * channels..(member + 1) * channels]
    }

    /// The episodes under way: with the seed, all of the state.
    pub fn episodes(&self) -> &[Episode] {
        &self.episodes
    }

    /// Goes on where `episodes` are: every action is taken again.
    pub fn resume(&mut self, episodes: &[Episode]) {
        for (member, saved) in episodes.iter().enumerate().take(self.members()) {
            self.episodes[member] = Episode { number: saved.number, ..Episode::default() };
            self.begin(member);
            let channels = self.spaces.channels();
            let x = &mut self.x[member * channels..(member + 1) * channels];
            for (tick, action) in saved.actions.chunks_exact(self.spaces.action_size()).enumerate() {
                let step = self.environments[member].step(self.spaces.action(action));
                self.spaces.write(step.observation, tick + 1, Some(action), x);
            }
            self.episodes[member] = saved.clone();
        }
    }

    fn begin(&mut self, member: usize) {
        let seed = episode_seed(self.seed, member, self.episodes[member].number);
        let channels = self.spaces.channels();
        let x = &mut self.x[member * channels..(member + 1) * channels];
        self.spaces.write(self.environments[member].reset(seed), 0, None, x);
    }
}

/// The seed of one member's episode.
pub fn episode_seed(seed: u64, member: usize, number: u64) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(member as u64);
    random.set_word_pos(2 * u128::from(number));
    random.next_u64()
}
