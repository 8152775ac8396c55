//! A Bevy game by the rules of `TMaze` is lived through as the environment itself, in training and with a trained model.
#![allow(clippy::unwrap_used)]

use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_infformer::infformer::{ChannelGroup, Device, LoadedClock, RuntimeConfig, RuntimeMode, Scale};
use bevy_infformer::{
    InfformerPlugin, Memories, MemoryAgent, MemoryAsset, MemoryFailure, MemorySystems, MemoryTick, Observe,
};
use candle_core::{DType, Tensor};
use infformer::model::{Model, ModelConfig, Reset};
use infformer_rl::bevy_game::{Act, BeginEpisode, BevyGame, PreviousAction, TrainedAgents, Verdict};
use infformer_rl::distribution::{Choice, choose, draws};
use infformer_rl::environment::{Action, ActionSpace, Ending, Environment};
use infformer_rl::environment_batch::EnvironmentBatch;
use infformer_rl::environments::{MemoryChain, Penalty, TMaze};
use infformer_rl::memories::MemoryName;
use infformer_rl::policy::{Policy, PolicyConfig, PreviousActionInput, Spaces};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const CORRIDOR: i32 = 10;

/// Where the agent is in the maze, what the sign says, and how long it has walked.
#[derive(Component, Default, Clone)]
struct Walker {
    x: i32,
    y: i32,
    goal: i32,
    steps: i32,
}

#[derive(Component, Default, Clone)]
struct Sight([f32; 2]);

impl Observe for Sight {
    fn groups() -> Vec<ChannelGroup> {
        vec![ChannelGroup::new("seen", &["junction", "side"], "", Scale::Given(1.0))]
    }

    fn write(&self, channels: &mut Vec<f32>) {
        channels.extend(self.0);
    }
}

#[derive(Component, Default, Clone)]
struct Move(Option<usize>);

impl Act for Move {
    fn actions() -> ActionSpace {
        ActionSpace::Discrete(4)
    }

    fn decide(&mut self, action: Option<Action>) {
        self.0 = action.map(|action| action.choice(4));
    }
}

/// The same four ways as two choices: 0 and 1, then 2 and 3.
#[derive(Component, Default, Clone)]
struct Turn(Option<[usize; 2]>);

impl Act for Turn {
    fn actions() -> ActionSpace {
        ActionSpace::MultiDiscrete(&[2, 2])
    }

    fn decide(&mut self, action: Option<Action>) {
        self.0 = action.map(|action| action.choices([2, 2]));
    }
}

fn turn(mut walkers: Query<(&Turn, &mut Move)>) {
    for (turn, mut go) in &mut walkers {
        go.0 = turn.0.map(|[pair, which]| 2 * pair + which);
    }
}

/// Ticks of `FixedUpdate` and its time.
#[derive(Resource, Default)]
struct Clock(u64, f32);

/// The rules, for training and for the game.
fn maze(app: &mut App) {
    app.init_resource::<Clock>().add_observer(begin).add_systems(
        FixedUpdate,
        ((turn, walk).chain().in_set(MemorySystems::Act), look.in_set(MemorySystems::Observe)),
    );
}

fn begin(begin: On<BeginEpisode>, mut walkers: Query<&mut Walker>) {
    let up: bool = ChaCha8Rng::seed_from_u64(begin.seed).random();
    for mut walker in &mut walkers {
        *walker = Walker { goal: if up { 1 } else { -1 }, ..default() };
    }
}

fn walk(time: Res<Time>, mut clock: ResMut<Clock>, mut walkers: Query<(&Move, &mut Walker, &mut Verdict)>) {
    *clock = Clock(clock.0 + 1, clock.1 + time.delta_secs());
    for (go, mut walker, mut verdict) in &mut walkers {
        let Some(action) = go.0 else { continue };
        if walker.steps > CORRIDOR {
            verdict.ending = Ending::Terminated;
            continue;
        }
        let at_junction = walker.x == CORRIDOR;
        match action {
            0 => walker.x = (walker.x + 1).min(CORRIDOR),
            2 => walker.x = (walker.x - 1).max(0),
            1 => walker.y = i32::from(at_junction),
            _ => walker.y = -i32::from(at_junction),
        }
        walker.steps += 1;
        if walker.steps > CORRIDOR {
            *verdict = Verdict { reward: f32::from(walker.y == walker.goal), ending: Ending::Terminated };
        } else if walker.x < walker.steps {
            verdict.reward -= 1.0 / CORRIDOR as f32;
        }
    }
}

fn look(mut walkers: Query<(&Walker, &mut Sight)>) {
    for (walker, mut sight) in &mut walkers {
        sight.0 = match (walker.steps, walker.x == CORRIDOR) {
            (0, _) => [0.0, walker.goal as f32],
            (_, true) => [1.0, walker.y as f32],
            (_, false) => [0.0, 0.0],
        };
    }
}

fn agent(memory: Handle<MemoryAsset>) -> impl Bundle {
    (Walker::default(), Sight::default(), Move::default(), Verdict::default(), MemoryAgent::new(memory))
}

type Maze = BevyGame<Sight, Move>;

fn game() -> Maze {
    game_by::<Move>()
}

/// The game of an agent that acts by `A`.
fn game_by<A: Act + Default>() -> BevyGame<Sight, A> {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, maze));
    app.add_systems(Startup, |mut commands: Commands| {
        commands.spawn(agent(Handle::default())).insert(A::default());
    });
    BevyGame::new(app)
}

fn rules() -> TMaze {
    TMaze::new(CORRIDOR as usize, Penalty::BehindTime)
}

/// Mostly to the right, so that the junction is reached.
fn actions(seed: u64) -> Vec<usize> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..=CORRIDOR).map(|_| if random.random_bool(0.9) { 0 } else { random.random_range(0..4) }).collect()
}

type Tick = (Vec<f32>, f32, Ending);

/// One episode: the first observation, then what came of each action, and of one more after the end.
fn live(environment: &mut dyn Environment, seed: u64) -> Vec<Tick> {
    let mut ticks = vec![(environment.reset(seed).to_vec(), 0.0, Ending::Running)];
    for action in actions(seed).into_iter().chain([1]) {
        let step = environment.step(Action::Discrete(action));
        ticks.push((step.observation.to_vec(), step.reward, step.ending));
    }
    ticks
}

#[test]
fn it_is_the_pure_environment() {
    let (mut game, mut rules) = (game(), rules());
    game.check().unwrap();
    assert_eq!((game.observations(), game.actions()), (rules.observations(), rules.actions()));
    let mut won = 0;
    for seed in 0..200 {
        let (found, expected) = (live(&mut game, seed), live(&mut rules, seed));
        won += usize::from(expected.iter().any(|tick| tick.1 > 0.0));
        assert_eq!(found, expected, "seed {seed}");
    }
    assert!(won > 0);
}

#[test]
fn a_batch_of_games_is_a_batch_of_the_environment() {
    let mut games = EnvironmentBatch::new(&|| Box::new(game()), Spaces::of(&game(), None), 5, 3).unwrap();
    let mut mazes = EnvironmentBatch::new(&|| Box::new(rules()), Spaces::of(&rules(), None), 5, 3).unwrap();
    let turns = game_by::<Turn>();
    let seen = turns.observations().len();
    let mut turns = EnvironmentBatch::new(&|| Box::new(game_by::<Turn>()), Spaces::of(&turns, None), 5, 3).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..100 {
        assert_eq!(games.x(), mazes.x());
        let actions: Vec<f32> = (0..5).map(|_| f32::from(random.random_range(0..4_u8))).collect();
        let expected = mazes.step(&actions).unwrap();
        assert_eq!(games.step(&actions).unwrap(), expected);
        let pairs: Vec<f32> = actions.iter().flat_map(|action| [(action / 2.0).floor(), action % 2.0]).collect();
        assert_eq!(turns.step(&pairs).unwrap(), expected);
        // Both choices of the action before are seen, or none at the first tick.
        for (row, pair) in turns.x().chunks_exact(seen + 4).zip(pairs.chunks_exact(2)) {
            let [first, second, begins] = [row[seen + 1], row[seen + 2], row[seen + 3]];
            assert_eq!([first, second], if begins == 1.0 { [0.0; 2] } else { [pair[0] + 1.0, pair[1] + 1.0] });
        }
    }
}

#[test]
fn a_step_is_one_fixed_tick() {
    let mut game = game();
    let clock = |game: &Maze| (game.world().resource::<Clock>().0, game.world().resource::<Clock>().1);
    let before = clock(&game);
    game.reset(0);
    (0..7).for_each(|_| _ = game.step(Action::Discrete(0)));
    let after = clock(&game);
    let timestep = game.world().resource::<Time<Fixed>>().timestep().as_secs_f32();
    assert_eq!(after.0 - before.0, 8);
    assert!((after.1 - before.1 - 8.0 * timestep).abs() < 1e-6);
}

#[test]
fn an_episode_depends_on_its_seed_alone() {
    let mut used = game();
    for seed in 0..20 {
        // Left in the middle, and left at its end.
        used.reset(seed + 100);
        used.step(Action::Discrete(0));
        let again = live(&mut used, seed);
        assert_eq!(again, live(&mut game(), seed));
        assert_eq!(again, live(&mut used, seed));
    }
}

#[test]
fn apps_on_several_threads_do_not_meet() {
    let alone: Vec<_> = (0..8).map(|seed| live(&mut game(), seed)).collect();
    let mut games: Vec<_> = (0..8).map(|_| game()).collect();
    // Step by step in turns, then each on a thread of its own; built here, stepped and dropped there.
    let mut in_turns: Vec<Vec<Tick>> = vec![];
    for (seed, game) in games.iter_mut().enumerate() {
        in_turns.push(vec![(game.reset(seed as u64).to_vec(), 0.0, Ending::Running)]);
    }
    for tick in 0..CORRIDOR as usize + 2 {
        for (seed, game) in games.iter_mut().enumerate() {
            let step = game.step(Action::Discrete(*actions(seed as u64).get(tick).unwrap_or(&1)));
            in_turns[seed].push((step.observation.to_vec(), step.reward, step.ending));
        }
    }
    assert_eq!(in_turns, alone);
    let threads: Vec<_> = games
        .into_iter()
        .enumerate()
        .map(|(seed, mut game)| std::thread::spawn(move || live(&mut game, seed as u64)))
        .collect();
    let found: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(found, alone);
}

#[test]
fn a_game_without_its_agent_says_so() {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, maze));
    let mut empty: Maze = BevyGame::new(app);
    let error = empty.check().unwrap_err().to_string();
    assert!(error.contains("0 entities"), "{error}");
    assert_eq!(empty.step(Action::Discrete(0)).ending, Ending::Terminated);
    empty.world_mut().spawn(agent(Handle::default()));
    empty.check().unwrap();
    assert_eq!(empty.step(Action::Discrete(0)).ending, Ending::Running);
}

/// What a policy lives through. Of the observation after the decision `lost`, counted from
/// 1, no decision comes: that one stands for a tick more.
fn evaluate(
    policy: &Policy,
    environment: &mut dyn Environment,
    seed: u64,
    choice: Choice,
    lost: Option<usize>,
) -> Vec<(f32, Ending)> {
    let mut random = draws(seed);
    let spaces = policy.spaces().clone();
    let mut x = environment.reset(seed).to_vec();
    let seen = x.len();
    x.resize(spaces.channels(), 0.0);
    spaces.write_rest(0, None, &mut x[seen..]);
    let (mut state, mut resets) = (policy.empty_state(1).unwrap(), vec![Reset { member: 0, tick: 0 }]);
    let mut verdicts: Vec<(f32, Ending)> = vec![];
    let (mut action, mut decisions) = (vec![0.0; spaces.actions.size()], 0);
    while verdicts.last().is_none_or(|verdict| verdict.1 == Ending::Running) {
        let input = Tensor::from_slice(&x, (1, 1, x.len()), &Device::Cpu).unwrap();
        let (said, after) = policy.forward(&input, &resets, &state).unwrap();
        resets.clear();
        state = after;
        if lost != Some(verdicts.len()) {
            let said: Vec<f32> = said.action.flatten_all().unwrap().to_vec1().unwrap();
            choose(spaces.actions, &said, choice, &mut random, &mut action);
            decisions += 1;
        }
        let step = environment.step(spaces.action(&action));
        x[..seen].copy_from_slice(step.observation);
        verdicts.push((step.reward, step.ending));
        spaces.write_rest(decisions, Some(&action), &mut x[seen..]);
    }
    verdicts
}

/// Ticks of the clock that the models see.
const CLOCK: usize = 8;

/// The game with its agent, whose memory is `model`, which sees its action before or does not.
fn shipped<A: Act + Default>(model: Model, choice: Choice, previous_action: PreviousActionInput) -> (App, Entity) {
    let agents = TrainedAgents::<Sight, A>::new(choice);
    let mut app = App::new();
    let runtime = RuntimeConfig { mode: RuntimeMode::Inline, ..default() };
    app.add_plugins((MinimalPlugins, AssetPlugin::default()))
        .add_plugins(InfformerPlugin::default().with_runtime(runtime))
        .add_plugins((maze, agents.with_clock(CLOCK).with_previous_action(previous_action)))
        .insert_resource(TimeUpdateStrategy::FixedTimesteps(1));
    app.finish();
    app.cleanup();
    let memory = app.world_mut().resource_mut::<Assets<MemoryAsset>>().add(MemoryAsset::Model(Arc::new(model)));
    let walker = app.world_mut().spawn(agent(memory)).insert(A::default()).id();
    // One to start the clock, one to give the agent its memory.
    app.update();
    app.update();
    (app, walker)
}

#[test]
fn a_model_does_in_the_game_what_it_does_in_training() {
    for previous_action in [PreviousActionInput::Shown, PreviousActionInput::Hidden] {
        for choice in [Choice::Greedy, Choice::Drawn] {
            does_as_in_training::<Move>(choice, previous_action);
            does_as_in_training::<Turn>(choice, previous_action);
        }
    }
}

fn does_as_in_training<A: Act + Default>(choice: Choice, previous_action: PreviousActionInput) {
    let mut training = game_by::<A>();
    let spaces = Spaces::with_clock(training.observations(), training.actions(), Some(CLOCK));
    let spaces = spaces.with_previous_action(previous_action);
    let config = PolicyConfig::named(MemoryName::InfformerAdaptive, &spaces).unwrap();
    for weights in 0..2 {
        let policy = config.init(&spaces, weights, &Device::Cpu).unwrap();
        let model = config.model_config(&spaces).unwrap().init_seeded(weights, DType::F32, &Device::Cpu).unwrap();
        let (mut app, walker) = shipped::<A>(model, choice, previous_action);
        for seed in 0..5 {
            app.world_mut().trigger(BeginEpisode { seed });
            app.world_mut().flush();
            app.update();
            assert_eq!(app.world().get::<Move>(walker).unwrap().0, None);
            let mut verdicts = vec![];
            while verdicts.last().is_none_or(|verdict: &(f32, Ending)| verdict.1 == Ending::Running) {
                app.update();
                let verdict = app.world().get::<Verdict>(walker).unwrap();
                verdicts.push((verdict.reward, verdict.ending));
            }
            assert_eq!(
                verdicts,
                evaluate(&policy, &mut training, seed, choice, None),
                "weights {weights}, seed {seed}, {choice:?}"
            );
        }
    }
}

/// What a game saves of its agent, put into another app or back into the running one: the episode goes on there.
#[test]
fn a_saved_game_goes_on() {
    let mut training = game();
    let spaces = Spaces::with_clock(training.observations(), training.actions(), Some(CLOCK));
    let config = PolicyConfig::named(MemoryName::Infformer, &spaces).unwrap();
    for (weights, saved_after, played_on) in [(0, 1, None), (1, 4, None), (2, 4, Some(2)), (3, 1, Some(3))] {
        let policy = config.init(&spaces, weights, &Device::Cpu).unwrap();
        let model = || config.model_config(&spaces).unwrap().init_seeded(weights, DType::F32, &Device::Cpu).unwrap();
        let (mut app, mut walker) = shipped::<Move>(model(), Choice::Greedy, PreviousActionInput::Shown);
        app.world_mut().trigger(BeginEpisode { seed: weights });
        app.world_mut().flush();
        app.update();
        let update = |app: &mut App, walker: Entity| {
            app.update();
            let verdict = app.world().get::<Verdict>(walker).unwrap();
            (verdict.reward, verdict.ending)
        };
        let mut verdicts: Vec<_> = (0..saved_after).map(|_| update(&mut app, walker)).collect();
        let save = |world: &mut World, mut memories: Mut<Memories>| memories.save(world.get(walker).unwrap());
        let bytes = app.world_mut().resource_scope(save).unwrap();
        let acting = ron::to_string(app.world().get::<PreviousAction>(walker).unwrap()).unwrap();
        let body = app.world().get::<Walker>(walker).unwrap().clone();
        match played_on {
            Some(ticks) => (0..ticks).for_each(|_| _ = update(&mut app, walker)),
            None => (app, walker) = shipped::<Move>(model(), Choice::Greedy, PreviousActionInput::Shown),
        }
        let now = LoadedClock::NewestAt(app.world().resource::<MemoryTick>().0);
        let load =
            |world: &mut World, mut memories: Mut<Memories>| memories.load(world.get(walker).unwrap(), bytes, now);
        app.world_mut().resource_scope(load).unwrap();
        app.world_mut().entity_mut(walker).insert((body, ron::from_str::<PreviousAction>(&acting).unwrap()));
        while verdicts.last().is_some_and(|verdict| verdict.1 == Ending::Running) {
            verdicts.push(update(&mut app, walker));
        }
        assert_eq!(
            verdicts,
            evaluate(&policy, &mut training, weights, Choice::Greedy, Some(saved_after)),
            "weights {weights}"
        );
    }
}

/// A copy of an agent has an empty memory, and nothing done before; what is no action of the game is told and forgotten.
#[test]
fn nobody_acts_by_what_was_never_decided() {
    let spaces = Spaces::of(&game(), Some(CLOCK));
    let config = PolicyConfig::named(MemoryName::Infformer, &spaces).unwrap().model_config(&spaces).unwrap();
    let model = |config: ModelConfig| config.init_seeded(0, DType::F32, &Device::Cpu).unwrap();
    let (mut app, walker) = shipped::<Move>(model(config.clone()), Choice::Greedy, PreviousActionInput::Shown);
    app.world_mut().trigger(BeginEpisode { seed: 0 });
    app.world_mut().flush();
    (0..3).for_each(|_| app.update());
    assert!(app.world().get::<PreviousAction>(walker).unwrap().action.is_some());
    let twin = app.world_mut().entity_mut(walker).clone_and_spawn();
    app.update();
    assert_eq!(app.world().get::<Move>(twin).unwrap().0, None);
    for action in [vec![], vec![4.0], vec![0.5], vec![0.0, 0.0]] {
        let saved = PreviousAction { action: Some(action), ticks: 7 };
        app.world_mut().entity_mut(walker).insert(saved);
        app.update();
        let failure = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().next().unwrap();
        assert!(failure.message.contains("begins anew"), "{}", failure.message);
        assert!(app.world().get::<PreviousAction>(walker).unwrap().ticks <= 1);
    }
    // Another memory, and a model that changed on disk so that the state does not fit.
    let memory = app.world().get::<MemoryAgent>(walker).unwrap().memory.clone();
    let other = MemoryAsset::Model(Arc::new(model(ModelConfig { short_term: 64, ..config })));
    let replace = |app: &mut App| {
        app.world_mut().entity_mut(walker).insert(MemoryAgent::new(memory.clone()));
    };
    let reload = |app: &mut App| {
        app.world_mut().resource_mut::<Assets<MemoryAsset>>().insert(&memory, other.clone()).unwrap();
    };
    for change in [&replace as &dyn Fn(&mut App), &reload] {
        (0..8).for_each(|_| app.update());
        assert!(app.world().get::<PreviousAction>(walker).unwrap().ticks > 6);
        change(&mut app);
        (0..3).for_each(|_| app.update());
        assert!(app.world().get::<PreviousAction>(walker).unwrap().ticks <= 3);
    }
}

#[test]
fn a_model_of_another_game_is_refused() {
    // Of another; and of the same, with choices of other counts that are as many together, which no input tells.
    let other = Spaces::of(&MemoryChain::new(3, 1), None);
    is_refused::<Move>(&other, PreviousActionInput::Shown);
    let hidden = |actions| {
        Spaces::with_clock(game().observations(), actions, Some(CLOCK))
            .with_previous_action(PreviousActionInput::Hidden)
    };
    for actions in [ActionSpace::Discrete(4), ActionSpace::MultiDiscrete(&[1, 3]), ActionSpace::Continuous(2)] {
        is_refused::<Turn>(&hidden(actions), PreviousActionInput::Hidden);
    }
}

fn is_refused<A: Act + Default>(spaces: &Spaces, previous_action: PreviousActionInput) {
    let config = PolicyConfig::named(MemoryName::InfformerAdaptive, spaces).unwrap();
    let model = || config.model_config(spaces).unwrap().init_seeded(0, DType::F32, &Device::Cpu).unwrap();
    let needed = Spaces::with_clock(game().observations(), A::actions(), Some(CLOCK));
    assert!(Policy::from_model(model(), &needed.with_previous_action(previous_action)).is_err());
    let (mut app, walker) = shipped::<A>(model(), Choice::Greedy, previous_action);
    app.update();
    let failure = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().next().unwrap();
    assert!(failure.message.contains("trained to see and act so"), "{}", failure.message);
    app.update();
    app.update();
    assert_eq!(app.world().get::<Move>(walker).unwrap().0, None);
}
