//! The memories that are compared. All get the same sightings and answer the same question.

use crate::sighting;
use crate::world::{Remembered, SAME_PLACE, Sighting, TICKS_A_SECOND};
use bevy_infformer::Observe;
use infformer::{AgentStep, ChannelGroup, Device, Engine, Error, MemoryConfig};
use std::collections::VecDeque;

/// A kind of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MindKind {
    /// None: only what is in sight.
    Nothing,
    /// The newest sightings, as many as fit in the bytes of `events()`.
    Ring,
    /// The same ring, which takes a sighting only if it differs from the one before: another kind, another state, or
    /// another place.
    ChangeRing,
    /// infformer's `trajectory()`.
    Trajectory,
    /// infformer's `events()`.
    Events,
    /// Every sighting of the whole life.
    Oracle,
}

impl MindKind {
    /// All, in the order of the table.
    pub const ALL: [MindKind; 6] = [
        MindKind::Nothing,
        MindKind::Ring,
        MindKind::ChangeRing,
        MindKind::Trajectory,
        MindKind::Events,
        MindKind::Oracle,
    ];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            MindKind::Nothing => "no memory",
            MindKind::Ring => "ring buffer",
            MindKind::ChangeRing => "ring buffer of changes",
            MindKind::Trajectory => "infformer trajectory()",
            MindKind::Events => "infformer events()",
            MindKind::Oracle => "oracle (all it saw)",
        }
    }

    /// One mind for each of `foragers`.
    pub fn start(self, foragers: usize) -> Result<Minds, Error> {
        let takes = if self == MindKind::ChangeRing { Takes::Changes } else { Takes::Everything };
        let ring = |capacity| Minds::Rings { rings: vec![Ring::new(capacity, takes); foragers] };
        Ok(match self {
            MindKind::Nothing => Minds::Nothing,
            MindKind::Ring | MindKind::ChangeRing => ring(bytes_of_events()? / BYTES_A_SIGHTING),
            MindKind::Oracle => ring(usize::MAX),
            MindKind::Trajectory => Minds::engine(MemoryConfig::trajectory, foragers)?,
            MindKind::Events => Minds::engine(MemoryConfig::events, foragers)?,
        })
    }

    /// Bytes that one mind takes.
    pub fn bytes(self) -> Result<Option<usize>, Error> {
        Ok(match self {
            MindKind::Nothing => Some(0),
            MindKind::Ring | MindKind::ChangeRing => Some(bytes_of_events()? / BYTES_A_SIGHTING * BYTES_A_SIGHTING),
            MindKind::Trajectory => {
                Some(Engine::new(&sighting::memory(MemoryConfig::trajectory), &Device::Cpu)?.bytes_per_agent())
            }
            MindKind::Events => Some(bytes_of_events()?),
            MindKind::Oracle => None,
        })
    }
}

fn bytes_of_events() -> Result<usize, Error> {
    Ok(Engine::new(&sighting::memory(MemoryConfig::events), &Device::Cpu)?.bytes_per_agent())
}

/// A tick (u32), a place (2 × f32), a kind and a state (2 bytes, padded to 4): tighter than an observation of nine
/// floats, as a good programmer would store it.
const BYTES_A_SIGHTING: usize = 16;

/// The minds of all foragers of one world.
pub enum Minds {
    /// No memory.
    Nothing,
    /// Lists of sightings.
    Rings {
        /// One a forager.
        rings: Vec<Ring>,
    },
    /// infformer.
    Engine {
        /// The memories.
        engine: Box<Engine>,
        /// One a forager.
        steps: Vec<AgentStep>,
    },
}

/// Sightings, oldest first.
#[derive(Debug, Clone)]
pub struct Ring {
    capacity: usize,
    takes: Takes,
    sightings: VecDeque<(u64, Sighting)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Everything,
    Changes,
}

impl Ring {
    fn new(capacity: usize, takes: Takes) -> Self {
        Self { capacity, takes, sightings: VecDeque::new() }
    }

    fn push(&mut self, tick: u64, sighting: Sighting) {
        let alike = |last: &(u64, Sighting)| {
            let last = &last.1;
            last.kind == sighting.kind
                && last.ripe == sighting.ripe
                && last.place.distance(sighting.place) <= SAME_PLACE
        };
        if self.takes == Takes::Changes
            && let Some(last) = self.sightings.back_mut().filter(|last| alike(last))
        {
            last.0 = tick;
            return;
        }
        if self.sightings.len() == self.capacity {
            self.sightings.pop_front();
        }
        self.sightings.push_back((tick, sighting));
    }
}

impl Minds {
    fn engine(preset: fn(Vec<ChannelGroup>) -> MemoryConfig, foragers: usize) -> Result<Self, Error> {
        let mut engine = Box::new(Engine::new(&sighting::memory(preset), &Device::Cpu)?);
        let mut steps = vec![];
        for _ in 0..foragers {
            steps.push(AgentStep::new(engine.spawn()?, engine.layout().clone(), 4));
        }
        Ok(Minds::Engine { engine, steps })
    }

    /// A tick of all foragers: takes what each saw, answers what each wonders about.
    pub fn tick(
        &mut self,
        tick: u64,
        sightings: &[Option<Sighting>],
        wonders: &[Option<usize>],
        answers: &mut [Vec<Remembered>],
    ) -> Result<(), Error> {
        answers.iter_mut().for_each(Vec::clear);
        match self {
            Minds::Nothing => {}
            Minds::Rings { rings } => {
                for (i, ring) in rings.iter_mut().enumerate() {
                    if let Some(sighting) = sightings[i] {
                        ring.push(tick, sighting);
                    }
                    let Some(kind) = wonders[i] else { continue };
                    recall_from(ring, tick, kind, &mut answers[i]);
                }
            }
            Minds::Engine { engine, steps } => {
                let mut channels = vec![];
                for (i, step) in steps.iter_mut().enumerate() {
                    step.tick = tick;
                    if let Some(sighting) = sightings[i] {
                        channels.clear();
                        sighting.write(&mut channels);
                        step.observations.push(tick, &channels)?;
                    }
                    step.queries.clear();
                    step.queries.extend(wonders[i].map(sighting::query));
                }
                engine.step(steps)?;
                for (step, answers) in steps.iter().zip(answers) {
                    step.outcome.clone()?;
                    step.answers.iter().for_each(|answer| sighting::remembered(answer, answers));
                }
            }
        }
        Ok(())
    }
}

/// The newest sighting of each place at which the kind was seen.
fn recall_from(ring: &Ring, tick: u64, kind: usize, answers: &mut Vec<Remembered>) {
    for (seen, sighting) in ring.sightings.iter().rev().filter(|(_, sighting)| sighting.kind == kind) {
        if answers.iter().all(|known| known.place.distance(sighting.place) > SAME_PLACE) {
            let age = (tick - seen) as f32 / TICKS_A_SECOND;
            answers.push(Remembered { place: sighting.place, ripe: sighting.ripe, age, confidence: 1.0 });
        }
    }
}
