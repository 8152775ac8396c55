//! The game in training: an app without a window that moves when the trainer says so.

use super::{Act, BeginEpisode, Verdict, inputs};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step, same_width};
use crate::error::{Error, Result};
use bevy::app::SubApp;
use bevy::ecs::schedule::SingleThreadedExecutor;
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_infformer::{MemorySystems, Observe};
use infformer::model::Input;

/// A game whose agent sees `S` and acts by `A`: the one entity with both and a [`Verdict`].
///
/// A step is one update of the app, in which time moves by one fixed timestep and `FixedUpdate` runs once, all on one
/// thread; the apps of a batch are stepped side by side, each now on this thread and now on that one: none may have data that
/// belongs to a thread (`NonSend`). An episode begins with [`BeginEpisode`] and a tick in
/// which the agent has not decided yet. An agent that is gone has nothing more to see: its episode is `Terminated`.
pub struct BevyGame<S: Component, A: Act> {
    /// The app itself cannot be sent to another thread; its main part, where everything of a headless app is, can.
    app: SubApp,
    agents: QueryState<Agent<S, A>>,
    seen: Vec<f32>,
    over: bool,
}

type Agent<S, A> = (&'static S, &'static mut A, &'static mut Verdict);

impl<S: Component + Observe, A: Act> BevyGame<S, A> {
    /// Takes an app with Bevy's `MinimalPlugins` or more, the rules of the game, and neither a window nor the plugins of
    /// the memories, and runs its `Startup`.
    ///
    /// What is awaited within the app, as files are, makes episodes depend on more than their seeds.
    pub fn new(mut app: App) -> Self {
        app.configure_sets(FixedUpdate, (MemorySystems::Act, MemorySystems::Observe).chain())
            .insert_resource(TimeUpdateStrategy::FixedTimesteps(1));
        app.finish();
        app.cleanup();
        let mut app = std::mem::take(app.main_mut());
        // The systems of one small world are over before another thread would have begun.
        for (_, schedule) in app.world_mut().resource_mut::<Schedules>().iter_mut() {
            schedule.set_executor(SingleThreadedExecutor::new());
        }
        // Bevy's first update has no time to step.
        app.update();
        let agents = app.world_mut().query();
        Self { app, agents, seen: vec![0.0; width::<S>()], over: true }
    }

    /// The world of the game.
    pub fn world(&self) -> &World {
        self.app.world()
    }

    /// The world of the game, to change what the rules leave open between two steps.
    pub fn world_mut(&mut self) -> &mut World {
        self.app.world_mut()
    }

    fn begin(&mut self, seed: u64) {
        let world = self.app.world_mut();
        world.trigger(BeginEpisode { seed });
        world.flush();
        self.over = self.tick(None).ending != Ending::Running;
    }

    fn tick(&mut self, action: Option<Action>) -> Verdict {
        if let Ok((_, mut act, mut verdict)) = self.agents.single_mut(self.app.world_mut()) {
            *verdict = Verdict::default();
            act.decide(action);
        }
        self.app.update();
        match self.agents.single_mut(self.app.world_mut()) {
            Ok((sight, _, verdict)) => {
                self.seen.clear();
                sight.write(&mut self.seen);
                *verdict
            }
            Err(_) => Verdict { reward: 0.0, ending: Ending::Terminated },
        }
    }
}

fn width<S: Observe>() -> usize {
    inputs::<S>().iter().map(Input::channels).sum()
}

impl<S: Component + Observe, A: Act> Environment for BevyGame<S, A> {
    fn observations(&self) -> Vec<Input> {
        inputs::<S>()
    }

    fn actions(&self) -> ActionSpace {
        A::actions()
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        self.begin(seed);
        &self.seen
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        let verdict = match self.over {
            true => Verdict { reward: 0.0, ending: Ending::Terminated },
            false => self.tick(Some(action)),
        };
        self.over |= verdict.ending != Ending::Running;
        Step { observation: &self.seen, reward: verdict.reward, ending: verdict.ending }
    }

    /// Refuses also a game that has not exactly one agent.
    fn check(&mut self) -> Result<()> {
        A::actions().validate()?;
        self.begin(0);
        let agents = self.agents.iter(self.app.world()).count();
        if agents != 1 {
            let message =
                format!("the game has {agents} entities with a Verdict that see and act as told instead of one");
            return Err(Error::Configuration(message));
        }
        same_width(self.seen.len(), width::<S>())
    }

    fn is_heavy(&self) -> bool {
        true
    }
}
