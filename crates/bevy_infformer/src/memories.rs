//! The memories themselves: one runtime for each memory asset in use, and the systems that talk to it.

use crate::agent::{MemoryAgent, MemorySlot, ResetMemory};
use crate::asset::MemoryAsset;
use crate::observe::Observations;
use crate::recall::{Questions, Recall};
use bevy::ecs::entity_disabling::Disabled;
use bevy::platform::collections::HashMap;
use bevy::prelude::*;
use infformer::{AgentId, Device, Error, LoadedClock, MemoryView, Runtime, RuntimeConfig, Submitted, ViewRequest};
use std::sync::Arc;

/// All memories of the app. Systems that look at single agents use its methods.
#[derive(Resource, Debug)]
pub struct Memories {
    config: RuntimeConfig,
    device: Device,
    kinds: HashMap<AssetId<MemoryAsset>, Kind>,
}

/// The agents of one memory asset.
#[derive(Debug)]
struct Kind {
    runtime: Runtime,
    /// The entity in each slot of the runtime.
    entities: Vec<Entity>,
}

/// The present tick of the memories: how often the plugin's schedule has run.
#[derive(Resource, Debug, Default, Clone, Copy, PartialEq, Eq, Reflect)]
#[reflect(Resource, Default)]
pub struct MemoryTick(pub u64);

/// Something went wrong with the memories. Agents keep what they remember; after a failed worker,
/// [`Memories::restart`] lets them go on.
#[derive(Message, Debug, Clone, PartialEq, Eq, Reflect)]
pub struct MemoryFailure {
    /// What happened, in words.
    pub message: String,
}

impl Memories {
    pub(crate) fn new(config: RuntimeConfig, device: Device) -> Self {
        Self { config, device, kinds: HashMap::default() }
    }

    /// One runtime a memory asset in use.
    pub fn runtimes(&self) -> impl Iterator<Item = &Runtime> {
        self.kinds.values().map(|kind| &kind.runtime)
    }

    /// The runtime that holds an agent's memory.
    pub fn runtime(&self, slot: &MemorySlot) -> Option<&Runtime> {
        self.kinds.get(&slot.memory).map(|kind| &kind.runtime)
    }

    /// Asks for a look at an agent's memory; [`Memories::take_view`] has it a tick or so later.
    pub fn request_view(&mut self, slot: &MemorySlot, request: ViewRequest) -> Result<(), Error> {
        self.runtime_mut(slot)?.request_view(slot.agent, request)
    }

    /// The latest look at an agent, if one has come. Works between ticks and while the game is paused.
    pub fn take_view(&mut self, slot: &MemorySlot) -> Option<Result<Box<MemoryView>, Error>> {
        let runtime = &mut self.kinds.get_mut(&slot.memory)?.runtime;
        runtime.poll_views();
        runtime.take_view(slot.agent)
    }

    /// An agent's memory as bytes, for a saved game. Waits for the worker.
    pub fn save(&mut self, slot: &MemorySlot) -> Result<Vec<u8>, Error> {
        self.runtime_mut(slot)?.save(slot.agent)
    }

    /// Puts saved bytes in place of an agent's memory. Waits for the worker. For a saved game the clock is
    /// [`LoadedClock::NewestAt`] the present [`MemoryTick`]. Errors say why bytes are refused.
    pub fn load(&mut self, slot: &MemorySlot, bytes: Vec<u8>, clock: LoadedClock) -> Result<(), Error> {
        self.runtime_mut(slot)?.load(slot.agent, bytes, clock)
    }

    /// Lets failed workers go on. Gives the number of agents that lost their memory with a thread: 0 as a rule.
    pub fn restart(&mut self) -> Result<usize, Error> {
        self.kinds.values_mut().map(|kind| kind.runtime.restart()).sum()
    }

    /// Moves all memories to another device, while the game goes on: answers are late until they are there. A device that
    /// refuses shows in a [`MemoryFailure`], and the memories stay where they are, as the agents of models do.
    pub fn move_to(&mut self, device: &Device) {
        self.device = device.clone();
        for kind in self.kinds.values_mut() {
            // Models stay.
            let _ = kind.runtime.move_to(device);
        }
    }

    /// Makes the worker of an agent fail, to see how a game takes it.
    pub fn inject_failure(&mut self, slot: &MemorySlot) -> Result<(), Error> {
        self.runtime_mut(slot)?.inject_failure(slot.agent)
    }

    fn runtime_mut(&mut self, slot: &MemorySlot) -> Result<&mut Runtime, Error> {
        let unknown = || Error::UnknownAgent { agent: slot.agent.to_string() };
        self.kinds.get_mut(&slot.memory).map(|kind| &mut kind.runtime).ok_or_else(unknown)
    }

    fn attach(
        &mut self,
        id: AssetId<MemoryAsset>,
        asset: &MemoryAsset,
        entity: Entity,
    ) -> Result<(AgentId, &Runtime), Error> {
        if !self.kinds.contains_key(&id) {
            let runtime = match asset {
                MemoryAsset::Recall(memory) => Runtime::new(memory, self.config, &self.device)?,
                MemoryAsset::Model(model) => Runtime::with_model(model.clone(), self.config)?,
            };
            self.kinds.insert(id, Kind { runtime, entities: vec![] });
        }
        let unknown = || Error::UnknownAgent { agent: entity.to_string() };
        let kind = self.kinds.get_mut(&id).ok_or_else(unknown)?;
        let agent = kind.runtime.spawn();
        kind.entities.resize(kind.entities.len().max(agent.slot() + 1), Entity::PLACEHOLDER);
        kind.entities[agent.slot()] = entity;
        Ok((agent, &kind.runtime))
    }

    fn detach(&mut self, slot: &MemorySlot) {
        if let Some(kind) = self.kinds.get_mut(&slot.memory) {
            // An agent that the runtime does not know is gone already.
            let _ = kind.runtime.remove(slot.agent);
            if let Some(entity) = kind.entities.get_mut(slot.agent.slot()) {
                *entity = Entity::PLACEHOLDER;
            }
        }
    }
}

/// Gives a memory to every agent whose asset is loaded and that has none yet.
pub(crate) fn attach_agents(
    assets: Res<Assets<MemoryAsset>>,
    agents: Query<(Entity, &MemoryAgent), Without<MemorySlot>>,
    mut commands: Commands,
) {
    for (entity, agent) in &agents {
        if assets.contains(agent.memory.id()) {
            // One command: whatever happens to the entity until then, it has both a slot and the component, or none.
            commands.queue(move |world: &mut World| attach_agent(world, entity));
        }
    }
}

fn attach_agent(world: &mut World, entity: Entity) {
    let Some(memory) = world.get::<MemoryAgent>(entity).map(|agent| agent.memory.id()) else { return };
    let Some(asset) = world.resource::<Assets<MemoryAsset>>().get(memory).cloned() else { return };
    let tick = world.resource::<MemoryTick>().0;
    let mut memories = world.resource_mut::<Memories>();
    match memories.attach(memory, &asset, entity).map(|(agent, runtime)| (agent, runtime.observation_queue())) {
        Ok((agent, queue)) => {
            if let Some(mut observations) = world.get_mut::<Observations>(entity) {
                observations.attach(tick, queue);
            }
            world.entity_mut(entity).insert(MemorySlot { memory, agent });
        }
        Err(error) => {
            let message = format!("{entity} cannot remember: {error}");
            world.write_message(MemoryFailure { message });
            // Once: without its component the entity is not asked again.
            world.entity_mut(entity).remove::<MemoryAgent>();
        }
    }
}

type Attached<'w> = (&'w MemorySlot, Option<&'w mut Observations>, Option<&'w mut Recall>);

/// An agent that is despawned, or whose component is removed or replaced, leaves no memory behind.
pub(crate) fn detach_agent(
    discard: On<Discard, MemoryAgent>,
    mut agents: Query<Attached, Allow<Disabled>>,
    memories: Option<ResMut<Memories>>,
    mut commands: Commands,
) {
    let (Ok((slot, observations, recall)), Some(mut memories)) = (agents.get_mut(discard.entity), memories) else {
        return;
    };
    memories.detach(slot);
    if let Some(mut observations) = observations {
        observations.queue = None;
    }
    if let Some(mut recall) = recall {
        recall.clear();
    }
    if let Ok(mut entity) = commands.get_entity(discard.entity) {
        entity.try_remove::<MemorySlot>();
    }
}

/// Empties the memory of one entity.
pub(crate) fn reset_agent(
    reset: On<ResetMemory>,
    mut memories: ResMut<Memories>,
    mut agents: Query<(&MemorySlot, &mut Observations, &mut Recall)>,
) -> Result {
    let Ok((slot, mut observations, mut recall)) = agents.get_mut(reset.entity) else { return Ok(()) };
    memories.runtime_mut(slot).and_then(|runtime| runtime.reset(slot.agent)).warn()?;
    if let Some(queue) = &mut observations.queue {
        queue.reset();
    }
    recall.clear();
    Ok(())
}

/// Takes over a configuration that changed on disk. Memories whose shape is still the same are kept.
pub(crate) fn reload_memories(
    mut events: MessageReader<AssetEvent<MemoryAsset>>,
    assets: Res<Assets<MemoryAsset>>,
    mut memories: ResMut<Memories>,
    mut agents: Query<(&mut MemorySlot, &mut Observations, &mut Recall), Allow<Disabled>>,
    mut failures: MessageWriter<MemoryFailure>,
    mut commands: Commands,
) {
    for event in events.read() {
        let id = match *event {
            AssetEvent::Modified { id } => id,
            AssetEvent::Removed { id } => {
                // Its thread and its arena go with it, once nobody remembers by it.
                memories.kinds.retain(|known, kind| *known != id || kind.runtime.diagnostics().agents > 0);
                continue;
            }
            _ => continue,
        };
        let Some(asset) = assets.get(id) else { continue };
        let is_same = |kind: &Kind| match asset {
            MemoryAsset::Recall(config) => kind.runtime.memory() == Some(config),
            MemoryAsset::Model(model) => kind.runtime.model().is_some_and(|known| Arc::ptr_eq(known, model)),
        };
        if memories.kinds.get(&id).is_none_or(is_same) {
            continue;
        }
        let Some(mut old) = memories.kinds.remove(&id) else { continue };
        for (mut slot, mut observations, mut recall) in agents.iter_mut().filter(|(slot, ..)| slot.memory == id) {
            let Some(&entity) = old.entities.get(slot.agent.slot()) else { continue };
            let saved = old.runtime.save(slot.agent);
            let carried =
                memories.attach(id, asset, entity).map(|(agent, runtime)| (agent, runtime.observation_queue()));
            let (agent, queue) = match carried {
                Ok(attached) => attached,
                Err(error) => {
                    failures
                        .write(MemoryFailure { message: format!("the new memory configuration is refused: {error}") });
                    memories.kinds.insert(id, old);
                    return;
                }
            };
            slot.agent = agent;
            observations.exchange(queue);
            if let Err(error) = saved.and_then(|bytes| memories.load(&slot, bytes, LoadedClock::Kept)) {
                recall.clear();
                // Inserted, not changed: whoever goes on from what was remembered learns that nothing is.
                commands.entity(entity).insert(MemorySlot { memory: id, agent });
                let message = format!("{entity} begins with an empty memory under the new configuration: {error}");
                failures.write(MemoryFailure { message });
            }
        }
    }
}

/// Says what went wrong in the log too: whoever does not read the messages would see an agent that stands still.
pub(crate) fn log_failures(mut failures: MessageReader<MemoryFailure>) {
    failures.read().for_each(|failure| error!("{}", failure.message));
}

/// Hands the replies to the agents.
pub(crate) fn receive(
    mut memories: ResMut<Memories>,
    mut agents: Query<(&MemorySlot, &mut Recall)>,
    mut failures: MessageWriter<MemoryFailure>,
) {
    for kind in memories.kinds.values_mut() {
        let Kind { runtime, entities } = kind;
        runtime.receive(|step, late| {
            let Some(&entity) = entities.get(step.agent.slot()) else { return };
            // The agent may be gone, or another may have its slot, since this reply was on its way.
            if let Ok((slot, mut recall)) = agents.get_mut(entity)
                && slot.agent == step.agent
                && (step.has_answers() || step.outcome.is_err() || recall.error.is_some())
            {
                recall.take(step, late);
            }
        });
        failures.write_batch(runtime.take_failures().map(|message| MemoryFailure { message }));
    }
}

/// Sends what was seen and asked, and ends the tick.
pub(crate) fn submit(
    mut tick: ResMut<MemoryTick>,
    mut memories: ResMut<Memories>,
    mut agents: Query<(&MemorySlot, &mut Observations, &Questions, &mut Recall)>,
) {
    for (slot, mut observations, questions, mut recall) in &mut agents {
        // What is pushed from now on, between the ticks too, belongs to the next.
        observations.tick = tick.0 + 1;
        let Some(queue) = &mut observations.queue else { continue };
        let queries = questions.queries();
        if queue.is_empty() && queries.is_empty() {
            continue;
        }
        let Ok(runtime) = memories.runtime_mut(slot) else { continue };
        let submitted = runtime.submit(slot.agent, tick.0, queue, queries).or_else(|error| {
            // What was seen is remembered, even where what is asked makes no sense.
            recall.refuse(&error);
            runtime.submit(slot.agent, tick.0, queue, &[])
        });
        match submitted {
            Ok(Submitted::Taken) => {}
            Ok(Submitted::Deferred) if runtime.has_failed() => {
                recall.refuse(&Error::Worker { message: "see the message MemoryFailure".into() });
            }
            Ok(Submitted::Deferred) => {}
            Err(error) => recall.refuse(&error),
        }
    }
    memories.kinds.values_mut().for_each(|kind| kind.runtime.flush());
    tick.0 += 1;
}
