//! What the memories cost, frame by frame.

use crate::Arguments;
use bevy::diagnostic::FrameCount;
use bevy::prelude::*;
use bevy_infformer::{Memories, MemorySystems, Observations};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Frames that the meter looks back.
const WINDOW: usize = 120;
/// Frames before anything is measured: assets load, caches fill.
const WARM_UP: u64 = 120;

/// Measures; the scene shows it, the headless run prints it.
pub struct MeterPlugin;

impl Plugin for MeterPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<Meter>().add_systems(Last, end_frame).add_systems(
            FixedUpdate,
            (
                begin.before(MemorySystems::Recall),
                end.after(MemorySystems::Recall).before(MemorySystems::Act),
                begin.after(MemorySystems::Observe).before(MemorySystems::Submit),
                end.after(MemorySystems::Submit),
            ),
        );
    }
}

/// One frame.
#[derive(Debug, Clone, Copy, Default)]
pub struct Frame {
    /// What the game's own thread did in it, waiting not included: all systems.
    pub work: Duration,
    /// The memories' share of that.
    pub memory: Duration,
    /// What a worker spent on the batch that came last, of whichever worker.
    pub worker: Duration,
    /// Agents whose answers came.
    pub agents: usize,
    /// Batches under way.
    pub queue_depth: usize,
}

/// The latest frames.
#[derive(Resource, Default)]
pub struct Meter {
    frames: VecDeque<Frame>,
    memory: Duration,
    begun: Option<Instant>,
    frame_begun: Option<Instant>,
    /// Answers later than the tick after their question, so far.
    pub late: u64,
    /// Pairs of observations that became one, so far.
    pub coalesced: u64,
}

/// All frames since the warm-up, where somebody wants to know.
#[derive(Resource, Default)]
pub struct Record(Vec<Frame>);

impl Meter {
    /// The middle and the worst of the latest frames, by some measure.
    pub fn middle_and_worst<T: Ord + Copy + Default>(&self, measure: impl Fn(&Frame) -> T) -> (T, T) {
        middle_and_worst(self.frames.iter().map(measure))
    }
}

fn middle_and_worst<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> (T, T) {
    let mut values: Vec<T> = values.collect();
    values.sort();
    (values.get(values.len() / 2).copied().unwrap_or_default(), values.last().copied().unwrap_or_default())
}

fn begin(mut meter: ResMut<Meter>) {
    meter.begun = Some(Instant::now());
}

fn end(mut meter: ResMut<Meter>) {
    let spent = meter.begun.take().map(|begun| begun.elapsed());
    meter.memory += spent.unwrap_or_default();
}

/// Notes when the work of a frame begins.
pub fn begin_frame(mut meter: ResMut<Meter>) {
    meter.frame_begun = Some(Instant::now());
}

fn end_frame(
    mut meter: ResMut<Meter>,
    record: Option<ResMut<Record>>,
    memories: Res<Memories>,
    observations: Query<&Observations>,
    count: Res<FrameCount>,
) {
    let mut frame = Frame { memory: std::mem::take(&mut meter.memory), ..default() };
    frame.work = meter.frame_begun.take().map(|begun| begun.elapsed()).unwrap_or_default();
    meter.late = 0;
    for runtime in memories.runtimes() {
        let diagnostics = runtime.diagnostics();
        frame.worker = frame.worker.max(diagnostics.step_time);
        frame.agents += diagnostics.batch_size;
        frame.queue_depth += diagnostics.queue_depth;
        meter.late += diagnostics.late_replies;
    }
    if u64::from(count.0).is_multiple_of(WINDOW as u64) {
        meter.coalesced = observations.iter().map(Observations::coalesced).sum();
    }
    meter.frames.truncate(WINDOW - 1);
    meter.frames.push_front(frame);
    if let Some(mut record) = record
        && u64::from(count.0) > WARM_UP
    {
        record.0.push(frame);
    }
}

/// Prints the figures of a run without a window, and ends it.
pub fn report(
    meter: Res<Meter>,
    record: Res<Record>,
    arguments: Res<Arguments>,
    memories: Res<Memories>,
    observations: Query<&Observations>,
    mut exit: MessageWriter<AppExit>,
) {
    if (record.0.len() as u64) < arguments.frames {
        return;
    }
    let line = |what: &str, measure: fn(&Frame) -> Duration| {
        let mut values: Vec<Duration> = record.0.iter().map(measure).collect();
        values.sort();
        let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("{what:<44} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.99), at(1.0));
    };
    let agents: usize = memories.runtimes().map(|runtime| runtime.diagnostics().agents).sum();
    println!("{agents} foragers, {} frames at 60 a second; every forager asks at every tick", record.0.len());
    println!("{:<44} {:>8} {:>8} {:>8}", "milliseconds", "middle", "99 %", "worst");
    line("a frame's work on the game's thread", |frame| frame.work);
    line("of it, the memories (receive and submit)", |frame| frame.memory);
    line("a worker's batch", |frame| frame.worker);
    let coalesced: u64 = observations.iter().map(Observations::coalesced).sum();
    println!("late answers: {} ticks of agents; coalesced: {coalesced} pairs of observations", meter.late);
    exit.write(AppExit::Success);
}
