//! An actor and a critic over one memory: what is trained on an environment, and what an agent then runs.
//!
//! A policy sees the environment's observation, the action before it (unless it is hidden) and whether the episode has just begun, as POPGym's
//! protocol has it. All policies have the same encoder and heads; they differ in their memory, and a larger feed-forward
//! part makes up for a small one ([`PolicyConfig::named`]).

use crate::environment::{Action, ActionSpace, Environment, same_width};
use crate::error::{Error, Result};
use crate::memories::{Layer, MemoryConfig, MemoryName, Transformer};
use crate::memory::{Memory, MemoryState};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use clap::ValueEnum;
use infformer::channels::is_token;
use infformer::model::parameters::seeded;
use infformer::model::{Encoder, Head, HeadKind, Heads, Input, Model, ModelConfig, Normalisation, Parameters, Reset};
use infformer::{Channel, DensityCell, Scale};
use serde::{Deserialize, Serialize};

/// Sizes and memory of a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// d: width of the stream.
    pub width: usize,
    /// Hidden units of the feed-forward part.
    pub feed_forward: usize,
    /// What it remembers with.
    pub memory: MemoryConfig,
    /// The period of the clock that it sees, in ticks; `None`: it sees none. See [`Spaces::with_clock`].
    #[serde(default)]
    pub clock: Option<usize>,
    /// Whether it sees what it did before.
    #[serde(default, skip_serializing_if = "is_shown")]
    pub previous_action: PreviousActionInput,
    /// What passes a layer normalisation: `Everything`, where it is not said. Of memories that are no transformers
    /// `Parts` leaves just the encoded observation as it is. An observation of many inputs is then heard louder.
    #[serde(default = "everything", skip_serializing_if = "is_everything")]
    pub normalisation: Normalisation,
}

fn everything() -> Normalisation {
    Normalisation::Everything
}

// What is as usual is not written down: trainings from before it could be said mean and are the same.

fn is_everything(normalisation: &Normalisation) -> bool {
    *normalisation == everything()
}

fn is_shown(input: &PreviousActionInput) -> bool {
    *input == PreviousActionInput::Shown
}

/// Whether a policy sees what it did before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
pub enum PreviousActionInput {
    /// The action before, as in POPGym's protocol.
    #[default]
    Shown,
    /// Not. Where actions are free, a policy could else write down in them what its memory is to hold.
    Hidden,
}

/// What a policy sees and does.
#[derive(Debug, Clone, PartialEq)]
pub struct Spaces {
    /// The environment's observation, then the clock, if there is one, the action before, if it is shown, and whether this is
    /// the first tick.
    pub inputs: Vec<Input>,
    /// What an action is.
    pub actions: ActionSpace,
    /// The period of the clock, in ticks.
    pub clock: Option<usize>,
    /// Whether the action before is shown.
    pub previous_action: PreviousActionInput,
}

impl Spaces {
    /// Those of an environment, with a clock of this period or without one.
    pub fn of(environment: &dyn Environment, clock: Option<usize>) -> Self {
        Self::with_clock(environment.observations(), environment.actions(), clock)
    }

    /// Those of an observation and an action. The clock counts the ticks of the episode modulo its period: sine and cosine
    /// at this period and its halves, down to 4 ticks (Vaswani et al. 2017, with a longest period). Beyond the period it
    /// shows nothing that was not seen before, so that what was learnt holds however long an episode is.
    pub fn with_clock(mut inputs: Vec<Input>, actions: ActionSpace, clock: Option<usize>) -> Self {
        if let Some(period) = clock {
            let channel = |(period, wave)| Channel::new(&format!("{wave}{period}"), "", Scale::Given(0.2));
            let waves = periods(period).flat_map(|period| [(period, "sine"), (period, "cosine")]);
            inputs.push(Input::Continuous { name: "clock".into(), channels: waves.map(channel).collect() });
        }
        let name = "previous_action".to_string();
        let one = |name, choices: &usize| Input::Token { name, vocabulary: choices + 1 };
        match actions {
            ActionSpace::Discrete(choices) => inputs.push(one(name, &choices)),
            ActionSpace::MultiDiscrete(choices) => {
                let places = choices.iter().enumerate();
                inputs.extend(places.map(|(place, choices)| one(format!("{name}_{place}"), choices)));
            }
            ActionSpace::Continuous(size) => {
                let channel = |number| Channel::new(&format!("a{number}"), "", Scale::Given(1.0));
                inputs.push(Input::Continuous { name, channels: (0..size).map(channel).collect() });
            }
        }
        inputs.push(Input::Token { name: "first".into(), vocabulary: 2 });
        Self { inputs, actions, clock, previous_action: PreviousActionInput::Shown }
    }

    /// The same, where the action before is shown, as it is at first, or hidden. What was hidden stays so.
    pub fn with_previous_action(mut self, input: PreviousActionInput) -> Self {
        if (self.previous_action, input) == (PreviousActionInput::Shown, PreviousActionInput::Hidden) {
            let last = self.inputs.len() - 1;
            let shown = match self.actions {
                ActionSpace::Continuous(_) => 1,
                _ => self.actions.choices().len(),
            };
            self.inputs.drain(last - shown..last);
            self.previous_action = input;
        }
        self
    }

    /// Channels of what a policy sees.
    pub fn channels(&self) -> usize {
        self.inputs.iter().map(Input::channels).sum()
    }

    /// What a policy sees \[channels\] at a tick of the episode, 0 the first: the observation, and the channels after it.
    /// Errors: an observation of another width.
    pub fn write(
        &self,
        observation: &[f32],
        tick: usize,
        previous: Option<&[f32]>,
        channels: &mut [f32],
    ) -> Result<()> {
        let expected = channels.len() - self.rest();
        same_width(observation.len(), expected)?;
        let (seen, rest) = channels.split_at_mut(expected);
        seen.copy_from_slice(observation);
        self.write_rest(tick, previous, rest);
        Ok(())
    }

    /// Numbers as an action: a choice is a whole number.
    pub fn action<'a>(&self, numbers: &'a [f32]) -> Action<'a> {
        match self.actions {
            ActionSpace::Discrete(_) => Action::Discrete(numbers[0] as usize),
            ActionSpace::MultiDiscrete(_) => Action::MultiDiscrete(numbers),
            ActionSpace::Continuous(_) => Action::Continuous(numbers),
        }
    }

    /// Whether these numbers are an action.
    pub fn is_action(&self, numbers: &[f32]) -> bool {
        let fits = match self.actions {
            ActionSpace::Continuous(_) => numbers.iter().all(|number| number.is_finite()),
            _ => self.actions.choices().iter().zip(numbers).all(|(choices, number)| is_token(*number, *choices)),
        };
        numbers.len() == self.actions.size() && fits
    }

    /// Channels after the observation's.
    pub fn rest(&self) -> usize {
        self.clock.map_or(0, |period| 2 * periods(period).count()) + self.previous_channels() + 1
    }

    /// Channels of the action before.
    fn previous_channels(&self) -> usize {
        match self.previous_action {
            PreviousActionInput::Shown => self.actions.size(),
            PreviousActionInput::Hidden => 0,
        }
    }

    /// The channels after the observation's: the clock, the action before (`None` at the first tick), and whether it is the
    /// first.
    pub fn write_rest(&self, tick: usize, action: Option<&[f32]>, channels: &mut [f32]) {
        let (clock, channels) = channels.split_at_mut(channels.len() - self.previous_channels() - 1);
        for (waves, period) in clock.chunks_exact_mut(2).zip(self.clock.into_iter().flat_map(periods)) {
            let angle = (tick % period) as f32 / period as f32 * std::f32::consts::TAU;
            waves.copy_from_slice(&[angle.sin(), angle.cos()]);
        }
        let (last, previous) = match channels.split_last_mut() {
            Some((last, previous)) => (last, previous),
            None => return,
        };
        *last = f32::from(u8::from(action.is_none()));
        match (self.actions, action) {
            (_, None) => previous.fill(0.0),
            (ActionSpace::Continuous(_), Some(action)) => {
                previous.iter_mut().zip(action).for_each(|(to, from)| *to = from.clamp(-1.0, 1.0));
            }
            (_, Some(action)) => previous.iter_mut().zip(action).for_each(|(to, from)| *to = from + 1.0),
        }
    }

    fn heads(&self) -> Vec<Head> {
        let value = Head { name: "value".into(), kind: HeadKind::Value };
        self.actions.heads().into_iter().chain([value]).collect()
    }
}

/// The period of a clock and its halves, down to 4 ticks.
fn periods(longest: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(longest), |period| Some(period / 2)).take_while(|period| *period >= 4)
}

/// A policy and its weights. It holds no state; see [`MemoryState`].
#[derive(Debug)]
pub struct Policy {
    spaces: Spaces,
    encoder: Encoder,
    memory: Box<dyn Memory>,
    heads: Heads,
    parameters: Parameters,
}

/// What a policy says.
#[derive(Debug, Clone)]
pub struct Said {
    /// Logits \[batch, T, choices\], place after place where there are several, or means and logarithms of standard deviations \[batch, T, 2·size\].
    pub action: Tensor,
    /// The expected return \[batch, T\].
    pub value: Tensor,
    /// The memory's regulariser, where it has one.
    pub regulariser: Option<Tensor>,
    /// Of a single tick of a model: where it looked \[batch, cells\], see [`Policy::density`].
    pub looked: Option<Tensor>,
}

impl PolicyConfig {
    /// A policy of this width and so many hidden units in its feed-forward part, without a clock, that sees its action before;
    /// everything is normalised.
    pub fn new(width: usize, feed_forward: usize, memory: MemoryConfig) -> Self {
        let previous_action = PreviousActionInput::Shown;
        Self { width, feed_forward, memory, clock: None, previous_action, normalisation: everything() }
    }

    /// The memory `name` at the size of the comparisons: d = 64, and as many parameters as `infformer` to a tenth. What has no
    /// hidden units to be counted out has a larger feed-forward part.
    pub fn named(name: MemoryName, spaces: &Spaces) -> Result<Self> {
        const WIDTH: usize = 64;
        const FEED_FORWARD: usize = 128;
        let config = |memory, feed_forward| {
            let Spaces { clock, previous_action, .. } = *spaces;
            Self { clock, previous_action, ..Self::new(WIDTH, feed_forward, memory) }
        };
        let ours = config(MemoryName::Infformer.config(0), FEED_FORWARD);
        let parameters = |config: &Self| Ok::<_, Error>(config.init(spaces, 0, &Device::Cpu)?.parameter_count());
        let most = parameters(&ours)?;
        let largest = |make: &dyn Fn(usize) -> Self| {
            let (mut fits, mut too_large) = (1, 2);
            while parameters(&make(too_large))? <= most {
                (fits, too_large) = (too_large, 2 * too_large);
            }
            while too_large - fits > 1 {
                let middle = (fits + too_large) / 2;
                if parameters(&make(middle))? <= most { fits = middle } else { too_large = middle }
            }
            Ok::<_, Error>(make(fits))
        };
        match name {
            MemoryName::Infformer => Ok(ours),
            _ if name.config(1) != name.config(2) => largest(&|hidden| config(name.config(hidden), FEED_FORWARD)),
            _ => largest(&|feed_forward| config(name.config(0), feed_forward)),
        }
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::Configuration(format!("policy.{what} is 1 or more")));
        if self.clock.is_some_and(|period| period < 4 || !period.is_power_of_two()) {
            return Err(Error::Configuration("policy.clock is a power of two, 4 or more, or none".into()));
        }
        match (self.width, self.feed_forward, self.memory.size()) {
            (0, ..) => refuse("width"),
            (_, 0, _) => refuse("feed_forward"),
            (.., Some(0)) => refuse("memory: a number of hidden units or frames"),
            _ => Ok(()),
        }
    }

    /// What it sees and does in an environment.
    pub fn spaces(&self, environment: &dyn Environment) -> Spaces {
        Spaces::of(environment, self.clock).with_previous_action(self.previous_action)
    }

    /// The model, where the memory is one of `infformer`'s.
    pub fn model_config(&self, spaces: &Spaces) -> Option<ModelConfig> {
        let MemoryConfig::Transformer { layers, attention_heads, short_term, chunk, long_term, recurrence, residual } =
            self.memory.clone()
        else {
            return None;
        };
        let base = ModelConfig::new(spaces.inputs.clone(), spaces.heads());
        let (width, feed_forward, normalisation) = (self.width, self.feed_forward, self.normalisation);
        Some(ModelConfig {
            width,
            layers,
            attention_heads,
            feed_forward,
            short_term,
            chunk,
            long_term,
            normalisation,
            recurrence,
            residual,
            ..base
        })
    }

    /// New weights from a seed.
    pub fn init(&self, spaces: &Spaces, seed: u64, device: &Device) -> Result<Policy> {
        self.validate()?;
        spaces.actions.validate()?;
        let policy = match self.model_config(spaces) {
            Some(config) => Policy::from_model(config.init_seeded(seed, DType::F32, device)?, spaces)?,
            None => {
                let (policy, parameters) = seeded(seed, DType::F32, device, |vb| self.build(spaces, vb))?;
                Policy { parameters, ..policy }
            }
        };
        // At first all actions are as good as equally probable (Andrychowicz et al. 2021) and nothing is expected,
        // whatever is seen: what a random expectation misses would else be blamed on the actions.
        for head in spaces.heads() {
            if let Some(weight) = policy.parameters.get(&format!("heads.{}.weight", head.name)) {
                weight.set(&(weight.as_tensor() * 0.01)?)?;
            }
        }
        Ok(policy)
    }

    /// A policy whose memory is no model.
    fn build(&self, spaces: &Spaces, vb: VarBuilder) -> infformer::Result<Policy> {
        let memory = self.memory.build(self.width, vb.pp("memory"))?;
        Ok(Policy {
            spaces: spaces.clone(),
            encoder: Encoder::new(&spaces.inputs, self.width, self.normalisation, vb.pp("encoder"))?,
            memory: Box::new(Layer::new(self.width, self.feed_forward, memory, vb.clone())?),
            heads: Heads::new(&spaces.heads(), self.width, vb)?,
            parameters: Parameters::new(),
        })
    }
}

/// Where what a model has is first not what is needed.
fn difference<T: PartialEq + std::fmt::Debug>(kind: &str, found: &[T], needed: &[T]) -> Option<String> {
    let place = (0..found.len().max(needed.len())).find(|place| found.get(*place) != needed.get(*place))?;
    let tell = |of: &[T]| of.get(place).map_or("none".into(), |one| format!("{one:?}"));
    Some(format!("its {kind} {place} is {}, needed is {}", tell(found), tell(needed)))
}

impl Policy {
    /// A trained model as a policy, for `spaces`. Errors: it has other inputs or heads.
    pub fn from_model(model: Model, spaces: &Spaces) -> Result<Self> {
        let found = model.config();
        let difference = difference("input", &found.inputs, &spaces.inputs)
            .or_else(|| difference("head", &found.heads, &spaces.heads()));
        if let Some(difference) = difference {
            return Err(Error::Configuration(format!(
                "the model was trained on another environment, another clock or another previous action: {difference}"
            )));
        }
        Ok(Self {
            spaces: spaces.clone(),
            encoder: model.encoder().clone(),
            heads: model.heads().clone(),
            parameters: model.parameters().clone(),
            memory: Box::new(Transformer::new(model)),
        })
    }

    /// What it sees and does.
    pub fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// The model, where it is one: it can be saved and shipped.
    pub fn model(&self) -> Option<&Model> {
        self.memory.model()
    }

    /// The weights by name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How many numbers the weights are.
    pub fn parameter_count(&self) -> usize {
        self.parameters.values().map(|var| var.elem_count()).sum()
    }

    /// The state of `batch` members that have seen nothing.
    pub fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        self.memory.empty_state(batch)
    }

    /// Takes x \[batch, T, channels\] from `state` on. Gradients flow to the weights and within the segment. Errors: those of
    /// [`Policy::encode`] and [`Policy::forward_encoded`].
    pub fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Said, MemoryState)> {
        self.forward_encoded(&self.encode(x)?, resets, state)
    }

    /// What the memory sees of x \[batch, T, channels\]: \[batch, T, d\]. Errors: another number of channels, values that are not
    /// finite, a token outside its vocabulary.
    pub fn encode(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.encoder.forward(x, DType::F32)?)
    }

    /// [`Policy::forward`] of what was [encoded](Policy::encode) \[batch, T, d\]: gradients flow to what was seen at each tick.
    /// Errors: other shapes, no tick, a reset outside the segment, a state of another memory or of another number of members.
    pub fn forward_encoded(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Said, MemoryState)> {
        let (batch, ticks, _) = x.dims3()?;
        if batch == 0 || ticks == 0 {
            let found = format!("a segment of {batch} members and {ticks} ticks: at least 1 of each is needed");
            return Err(Error::Configuration(found));
        }
        if let Some(Reset { member, tick }) = resets.iter().find(|reset| reset.member >= batch || reset.tick >= ticks) {
            let found = format!(
                "a reset of member {member} at tick {tick} of {batch} members and {ticks} ticks, counted from 0"
            );
            return Err(Error::Configuration(found));
        }
        self.memory.fits(state, batch)?;
        let (remembered, state) = self.memory.forward(x, resets, state)?;
        let mut heads = self.heads.forward(&remembered.stream)?;
        let value = heads.swap_remove(heads.len() - 1).squeeze(2)?;
        let action = Tensor::cat(&heads, 2)?;
        Ok((Said { action, value, regulariser: remembered.regulariser, looked: remembered.looked }, state))
    }

    /// Where a member looked in its long-term memory at the single tick that `said` is of; `state` is the one after it. Empty
    /// for other memories than a model's, and while nothing is in it.
    pub fn density(&self, said: &Said, state: &MemoryState, member: usize) -> Result<Vec<DensityCell>> {
        match (self.model(), state, &said.looked) {
            (Some(model), MemoryState::Model(state), Some(looked)) => {
                Ok(model.density(&looked.get(member)?.to_vec1::<f32>()?, state, member))
            }
            _ => Ok(vec![]),
        }
    }

    /// Reads what [`MemoryState::save`] wrote, for the same policy. Errors: those of [`Memory::load_state`].
    pub fn load_state(&self, bytes: &[u8]) -> Result<MemoryState> {
        self.memory.load_state(bytes)
    }
}
