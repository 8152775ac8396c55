//! The game: each walker in a hallway of its own, by the rules of the environment that trained it: a sign at the
//! beginning, other signs on the way that mean nothing, a junction.

use bevy::asset::LoadState;
use bevy::prelude::*;
use bevy_infformer::infformer::{ChannelGroup, RuntimeConfig, RuntimeMode, Scale};
use bevy_infformer::{InfformerPlugin, MemoryAgent, MemorySlot, MemorySystems, Observe};
use infformer_rl::bevy_game::{Act, BeginEpisode, TrainedAgents, Verdict};
use infformer_rl::distribution::Choice;
use infformer_rl::environment::{Action, ActionSpace, Ending, Environment};
use infformer_rl::environments::{Penalty, TMaze};
use infformer_rl::evaluation::evaluation_seed;

/// Ticks a second.
pub const TICKS_A_SECOND: f64 = 30.0;

/// How many walk how far.
#[derive(Resource, Debug, Clone, Copy)]
pub struct Hall {
    /// Steps from the sign to the junction.
    pub corridor: usize,
    /// Walkers, each in a hallway of its own.
    pub walkers: usize,
    /// Their episodes follow from it.
    pub seed: u64,
}

/// The rules, the walkers and their trained memories.
pub struct HallwayGame(pub Hall);

impl Plugin for HallwayGame {
    fn build(&self, app: &mut App) {
        let runtime = RuntimeConfig { mode: RuntimeMode::Lockstep, ..default() };
        app.insert_resource(self.0)
            .insert_resource(Time::<Fixed>::from_hz(TICKS_A_SECOND))
            .add_plugins(InfformerPlugin::default().with_runtime(runtime))
            .add_plugins(TrainedAgents::<Sight, Turn>::new(Choice::Greedy))
            .add_observer(begin)
            .add_systems(Startup, spawn)
            .add_systems(Update, give_up.run_if(not(any_with_component::<MemorySlot>)))
            .add_systems(FixedUpdate, (walk.in_set(MemorySystems::Act), look.in_set(MemorySystems::Observe)));
    }
}

/// A walker on its way.
#[derive(Component)]
#[require(Sight, Turn, Verdict, Transform)]
pub struct Walker {
    /// Its hallway.
    pub maze: TMaze,
    /// Which of all hallways it is.
    pub lane: usize,
    /// What it sees: whether this is the junction, and the sign's or its own side.
    seen: [f32; 2],
    /// Signs on the way that mean nothing: where, and which side they show.
    pub distractions: Vec<(usize, i8)>,
    /// Rewards of the episode so far.
    pub total: f64,
    /// Whether it turned the right way; none while it walks.
    pub turned: Option<bool>,
}

/// What a walker sees.
#[derive(Component, Default)]
pub struct Sight([f32; 2]);

impl Observe for Sight {
    fn groups() -> Vec<ChannelGroup> {
        vec![ChannelGroup::new("seen", &["junction", "side"], "", Scale::Given(1.0))]
    }

    fn write(&self, channels: &mut Vec<f32>) {
        channels.extend(self.0);
    }
}

/// Where a walker goes; nowhere while it has not decided.
#[derive(Component, Default)]
pub struct Turn(Option<usize>);

/// Right, up, left and down.
const WAYS: usize = 4;

impl Act for Turn {
    fn actions() -> ActionSpace {
        ActionSpace::Discrete(WAYS)
    }

    fn decide(&mut self, action: Option<Action>) {
        self.0 = action.map(|action| action.choice(WAYS));
    }
}

fn spawn(hall: Res<Hall>, assets: Res<AssetServer>, mut commands: Commands) {
    let memory = assets.load("models/hallway/hallway.model.ron");
    for lane in 0..hall.walkers {
        let maze = TMaze::new(hall.corridor, Penalty::AnyWrongMove).distracting();
        let walker = Walker { maze, lane, seen: [0.0; 2], distractions: vec![], total: 0.0, turned: None };
        commands.spawn((walker, Name::new(format!("walker {}", lane + 1)), MemoryAgent::new(memory.clone())));
    }
}

/// Nobody walks without a model: ends the game where there is none.
fn give_up(agents: Query<&MemoryAgent>, assets: Res<AssetServer>, mut exit: MessageWriter<AppExit>) {
    let memory = agents.iter().next().map(|agent| assets.load_state(agent.memory.id()));
    if let Some(LoadState::Failed(error)) = memory {
        error!("{error}; run this by cargo, or with BEVY_ASSET_ROOT set to the top of the repository");
        exit.write(AppExit::error());
    }
}

/// Round `seed`: every walker has the next of the trainer's evaluation episodes.
fn begin(begin: On<BeginEpisode>, hall: Res<Hall>, mut walkers: Query<&mut Walker>) {
    for mut walker in &mut walkers {
        let number = begin.seed as usize * hall.walkers + walker.lane;
        let seen = walker.maze.reset(evaluation_seed(hall.seed, number));
        let seen = [seen[0], seen[1]];
        (walker.seen, walker.total, walker.turned) = (seen, 0.0, None);
        walker.distractions.clear();
    }
}

fn walk(mut walkers: Query<(&Turn, &mut Walker, &mut Verdict)>) {
    for (turn, mut walker, mut verdict) in &mut walkers {
        let (Some(way), None) = (turn.0, walker.turned) else { continue };
        let step = walker.maze.step(Action::Discrete(way));
        let (seen, reward, ending) = ([step.observation[0], step.observation[1]], step.reward, step.ending);
        *verdict = Verdict { reward, ending };
        walker.seen = seen;
        if seen[0] == 0.0 && seen[1] != 0.0 {
            let place = walker.maze.place().0;
            walker.distractions.push((place, seen[1] as i8));
        }
        walker.total += f64::from(reward);
        walker.turned = (ending != Ending::Running).then_some(reward > 0.0);
    }
}

fn look(mut walkers: Query<(&Walker, &mut Sight)>) {
    for (walker, mut sight) in &mut walkers {
        sight.0 = walker.seen;
    }
}
