//! Many environments of one kind at once, each begun anew when it is over.

use crate::environment::{Ending, Environment};
use crate::error::{Error, Result};
use crate::policy::Spaces;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::iter::{ParallelBridge, ParallelIterator};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};

/// Makes environments of one kind.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Environment>;

/// A batch of environments, and what the policy sees of them.
pub struct EnvironmentBatch {
    members: Vec<Member>,
    spaces: Spaces,
    seed: u64,
    /// What the policy sees next \[members, channels\].
    x: Vec<f32>,
    /// What came of the last step, one a member.
    outcomes: Vec<Outcome>,
    /// Where heavy environments are stepped; others are on the caller's thread.
    threads: Option<ThreadPool>,
}

struct Member {
    number: usize,
    environment: Box<dyn Environment>,
    episode: Episode,
    /// What was seen last when an episode was over \[channels\].
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
    /// Errors: an environment shows more or less than its spaces say.
    pub fn new(make: Make, spaces: Spaces, members: usize, seed: u64) -> Result<Self> {
        let nothing = Outcome { reward: 0.0, ending: Ending::Running, finished: None };
        let member = |number| {
            let last = vec![0.0; spaces.channels()];
            Member { number, environment: make(), episode: Episode::default(), last }
        };
        let mut batch = Self {
            x: vec![0.0; members * spaces.channels()],
            members: (0..members).map(member).collect(),
            outcomes: vec![nothing; members],
            threads: None,
            spaces,
            seed,
        };
        if batch.members.first().is_some_and(|member| member.environment.is_heavy()) {
            // One for each core. Where there can be none, the caller's thread does.
            batch.threads = ThreadPoolBuilder::new()
                .num_threads(std::thread::available_parallelism().map_or(1, usize::from))
                .build()
                .ok();
        }
        for (member, x) in batch.members.iter_mut().zip(batch.x.chunks_exact_mut(batch.spaces.channels())) {
            member.begin(&batch.spaces, batch.seed, x)?;
        }
        Ok(batch)
    }

    /// Members.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// What the policy sees now \[members, channels\].
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// Whether a member's episode begins with what it sees now.
    pub fn begins(&self, member: usize) -> bool {
        self.members[member].episode.ticks == 0
    }

    /// Acts in all environments, `actions` \[members, size\]: choices as whole numbers. Heavy environments are stepped on all
    /// cores. Errors: another number of them, and nothing moves; an observation of another width.
    pub fn step(&mut self, actions: &[f32]) -> Result<&[Outcome]> {
        let expected = self.members.len() * self.spaces.actions.size();
        if actions.len() != expected {
            let found = format!("{expected} numbers of actions are expected: {} found", actions.len());
            return Err(Error::Configuration(found));
        }
        let (spaces, seed) = (&self.spaces, self.seed);
        let rows = self.x.chunks_exact_mut(spaces.channels());
        let actions = actions.chunks_exact(spaces.actions.size());
        let all = self.members.iter_mut().zip(rows).zip(actions.zip(&mut self.outcomes));
        match &self.threads {
            Some(threads) => threads.install(|| {
                all.par_bridge().try_for_each(|((member, x), (action, out))| member.act(spaces, seed, action, x, out))
            })?,
            None => {
                all.into_iter().try_for_each(|((member, x), (action, out))| member.act(spaces, seed, action, x, out))?
            }
        }
        Ok(&self.outcomes)
    }

    /// What the policy would have seen of a member after its last step, had its episode gone on \[channels\].
    pub fn last_x(&self, member: usize) -> &[f32] {
        &self.members[member].last
    }

    /// The episodes under way: with the seed, all of the state.
    pub fn episodes(&self) -> Vec<Episode> {
        self.members.iter().map(|member| member.episode.clone()).collect()
    }

    /// Goes on where `episodes` are: every action is taken again. Errors: another number of them; an environment that does
    /// not give the same again, whose episodes must follow from their seeds and actions alone.
    pub fn resume(&mut self, episodes: &[Episode]) -> Result<()> {
        if episodes.len() != self.members.len() {
            let (found, expected) = (episodes.len(), self.members.len());
            return Err(Error::Beginning(format!("{expected} episodes are expected: {found} found")));
        }
        let (spaces, seed) = (&self.spaces, self.seed);
        let members = self.members.iter_mut().zip(self.x.chunks_exact_mut(spaces.channels()));
        for ((member, x), saved) in members.zip(episodes) {
            member.episode = Episode { number: saved.number, ..Episode::default() };
            member.begin(spaces, seed, x)?;
            let (mut total, mut ended) = (0.0, false);
            for (tick, action) in saved.actions.chunks_exact(spaces.actions.size()).enumerate() {
                let step = member.environment.step(spaces.action(action));
                total += f64::from(step.reward);
                ended |= step.ending != Ending::Running;
                spaces.write(step.observation, tick + 1, Some(action), x)?;
            }
            if ended || total != saved.total {
                let (number, member, was) = (saved.number, member.number, saved.total);
                let found = if ended { "ended" } else { "is another" };
                return Err(Error::Beginning(format!(
                    "episode {number} of member {member} was to be lived again from its seed and its {} actions, to a \
                     return of {was}: it {found} ({total}); an environment must be the same again",
                    saved.actions.len() / spaces.actions.size()
                )));
            }
            member.episode = saved.clone();
        }
        Ok(())
    }
}

impl Member {
    /// Begins the episode of the present number; `x` is what the policy sees then.
    fn begin(&mut self, spaces: &Spaces, seed: u64, x: &mut [f32]) -> Result<()> {
        let seed = episode_seed(seed, self.number, self.episode.number);
        spaces.write(self.environment.reset(seed), 0, None, x)
    }

    /// Acts; `out` is what came of it, and `x` what the policy sees next.
    fn act(&mut self, spaces: &Spaces, seed: u64, action: &[f32], x: &mut [f32], out: &mut Outcome) -> Result<()> {
        let step = self.environment.step(spaces.action(action));
        let (reward, ending) = (step.reward, step.ending);
        let episode = &mut self.episode;
        spaces.write(step.observation, episode.ticks + 1, Some(action), x)?;
        episode.actions.extend_from_slice(action);
        episode.ticks += 1;
        episode.total += f64::from(reward);
        let finished = (ending != Ending::Running).then_some((episode.total, episode.ticks));
        if finished.is_some() {
            self.last.copy_from_slice(x);
            // The actions' room is kept.
            episode.actions.clear();
            (episode.number, episode.ticks, episode.total) = (episode.number + 1, 0, 0.0);
            self.begin(spaces, seed, x)?;
        }
        *out = Outcome { reward, ending, finished };
        Ok(())
    }
}

/// The seed of one member's episode.
pub fn episode_seed(seed: u64, member: usize, number: u64) -> u64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(member as u64);
    random.set_word_pos(2 * u128::from(number));
    random.next_u64()
}
