//! The shipped game: agents whose models decide.

use super::{Act, BeginEpisode, PreviousAction, Verdict, inputs};
use crate::distribution::{Choice, choose, draws};
use crate::policy::{PreviousActionInput, Spaces};
use bevy::ecs::entity_disabling::Disabled;
use bevy::prelude::*;
use bevy_infformer::{
    MemoryAgent, MemoryAsset, MemoryFailure, MemorySlot, MemorySystems, Observations, Observe, Recall, ResetMemory,
};
use rand_chacha::ChaCha8Rng;
use std::marker::PhantomData;

/// Lets entities that see `S` and act by `A` follow their trained models; `InfformerPlugin` runs those, in `FixedUpdate`.
///
/// What was seen at a tick is decided on at the next, as in training; with
/// [`RuntimeMode::Lockstep`](infformer::RuntimeMode) or `Inline` always, while a late answer of a free running model lets
/// the decision before it stand. [`BeginEpisode`] empties the memories of all these agents;
/// [`ResetMemory`] that of one, whose episode then begins anew.
pub struct TrainedAgents<S, A> {
    choice: Choice,
    clock: Option<usize>,
    previous_action: PreviousActionInput,
    kinds: PhantomData<fn() -> (S, A)>,
}

impl<S, A> TrainedAgents<S, A> {
    /// Agents that take their most probable action, or draw it as in training. An agent alone draws what it does in an
    /// [evaluation](crate::evaluation) of the episode with the seed of [`BeginEpisode`]; several draw in turn.
    pub fn new(choice: Choice) -> Self {
        Self { choice, clock: None, previous_action: PreviousActionInput::Shown, kinds: PhantomData }
    }

    /// The same, of models that saw a clock of this period in training
    /// ([`PolicyConfig::clock`](crate::policy::PolicyConfig)).
    pub fn with_clock(self, period: usize) -> Self {
        Self { clock: Some(period), ..self }
    }

    /// The same, of models that saw their action before in training, as they do if nothing is said, or did not
    /// ([`PolicyConfig::previous_action`](crate::policy::PolicyConfig)).
    pub fn with_previous_action(self, previous_action: PreviousActionInput) -> Self {
        Self { previous_action, ..self }
    }
}

/// How actions are taken from what the models say.
#[derive(Resource)]
struct Decisions<S: Component, A: Act> {
    spaces: Spaces,
    /// Numbers of each head that says an action.
    heads: Vec<usize>,
    /// What they say of one agent.
    said: Vec<f32>,
    choice: Choice,
    random: ChaCha8Rng,
    kinds: PhantomData<fn() -> (S, A)>,
}

impl<S: Component + Observe, A: Act> Plugin for TrainedAgents<S, A> {
    fn build(&self, app: &mut App) {
        let spaces = Spaces::with_clock(inputs::<S>(), A::actions(), self.clock);
        let heads = A::actions().heads();
        app.insert_resource(Decisions::<S, A> {
            spaces: spaces.with_previous_action(self.previous_action),
            heads: heads.iter().map(|head| head.kind.size()).collect(),
            said: vec![],
            choice: self.choice,
            random: draws(0),
            kinds: PhantomData,
        })
        .register_type::<PreviousAction>()
        .add_observer(forget::<S, A>)
        .add_observer(begin_anew)
        .add_observer(attach)
        .add_systems(
            FixedUpdate,
            (
                (compare::<S, A>, decide::<S, A>).chain().after(MemorySystems::Recall).before(MemorySystems::Act),
                show::<S, A>.after(MemorySystems::Observe).before(MemorySystems::Submit),
            ),
        );
    }
}

/// Agents that this plugin is for.
type Trained<S, A> = (With<S>, With<A>, With<MemoryAgent>);

fn forget<S: Component, A: Act>(
    begin: On<BeginEpisode>,
    agents: Query<Entity, Trained<S, A>>,
    mut decisions: ResMut<Decisions<S, A>>,
    mut commands: Commands,
) {
    decisions.random = draws(begin.seed);
    agents.iter().for_each(|entity| commands.trigger(ResetMemory { entity }));
}

/// An emptied memory begins an episode.
fn begin_anew(reset: On<ResetMemory>, mut agents: Query<&mut PreviousAction>) {
    if let Ok(mut previous) = agents.get_mut(reset.entity) {
        *previous = PreviousAction::default();
    }
}

/// A new memory knows nothing of what was done before it.
fn attach(insert: On<Insert, MemorySlot>, mut agents: Query<&mut PreviousAction, Allow<Disabled>>) {
    if let Ok(mut previous) = agents.get_mut(insert.entity) {
        *previous = PreviousAction::default();
    }
}

/// Agents that have just been given a memory.
type New<S, A> = (Added<MemorySlot>, With<S>, With<A>);

/// Says so when an agent was given a memory that was not trained on this game.
fn compare<S: Component, A: Act>(
    agents: Query<(Entity, &MemoryAgent), New<S, A>>,
    assets: Res<Assets<MemoryAsset>>,
    decisions: Res<Decisions<S, A>>,
    mut failures: MessageWriter<MemoryFailure>,
) {
    for (entity, agent) in &agents {
        let model = assets.get(&agent.memory).and_then(MemoryAsset::model);
        let fits = model.is_some_and(|model| {
            let (inputs, heads) = (&model.config().inputs, &model.config().heads);
            let needed = decisions.spaces.actions.heads();
            let acts =
                heads.len() >= needed.len() && heads.iter().zip(&needed).all(|(head, needed)| head.kind == needed.kind);
            inputs == &decisions.spaces.inputs && acts
        });
        if !fits {
            let message = format!("{entity} cannot decide: its memory is no model that was trained to see and act so");
            failures.write(MemoryFailure { message });
        }
    }
}

/// What is read and written where a model decides.
type Deciding<A> = (Entity, Ref<'static, Recall>, &'static mut A, &'static mut Verdict, &'static mut PreviousAction);

/// Hands what the models say to the game. Where no answer has come (nothing was seen yet, the answer is late, a saved game
/// has just been loaded) the decision before stands.
fn decide<S: Component, A: Act>(
    mut agents: Query<Deciding<A>, With<S>>,
    mut decisions: ResMut<Decisions<S, A>>,
    mut failures: MessageWriter<MemoryFailure>,
) {
    let Decisions { spaces, heads, said, choice, random, .. } = &mut *decisions;
    for (entity, recall, mut act, mut verdict, mut previous) in &mut agents {
        *verdict = Verdict::default();
        if previous.action.as_deref().is_some_and(|action| !spaces.is_action(action)) {
            let message = format!("{entity} begins anew: its PreviousAction {previous:?} is none of this game's");
            failures.write(MemoryFailure { message });
            *previous = PreviousAction::default();
        }
        let answered = !recall.heads().is_empty();
        let own = recall.heads().iter().take(heads.len());
        if answered && !own.clone().map(Vec::len).eq(heads.iter().copied()) {
            act.decide(None);
            continue;
        }
        // A refusal changes the component as well.
        if answered && recall.is_changed() && recall.error.is_none() {
            previous.ticks += 1;
            let action = previous.action.get_or_insert_default();
            action.resize(spaces.actions.size(), 0.0);
            said.clear();
            own.for_each(|head| said.extend(head));
            choose(spaces.actions, said, *choice, random, action);
        }
        act.decide(previous.action.as_deref().map(|action| spaces.action(action)));
    }
}

/// Hands what is seen to the memories, with the action before it, as in training.
fn show<S: Component + Observe, A: Act>(
    mut agents: Query<(Entity, &S, &PreviousAction, &mut Observations), With<A>>,
    decisions: Res<Decisions<S, A>>,
    mut failures: MessageWriter<MemoryFailure>,
    mut x: Local<Vec<f32>>,
) {
    for (entity, sight, previous, mut observations) in &mut agents {
        x.clear();
        sight.write(&mut x);
        let seen = x.len();
        x.resize(seen + decisions.spaces.rest(), 0.0);
        decisions.spaces.write_rest(previous.ticks, previous.action.as_deref(), &mut x[seen..]);
        if let Err(error) = observations.push(&x) {
            failures.write(MemoryFailure { message: format!("{entity} did not see this tick: {error}") });
        }
    }
}
