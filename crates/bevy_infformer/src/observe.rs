//! From components to channels: how what an agent sees becomes an observation.

use bevy::prelude::*;
use infformer::{ChannelGroup, Error, ObservationQueue};

/// How a value becomes channels of an observation, with names.
///
/// Names come from [`Observe::groups`], so that panels and queries can speak of `position.x`. Tuples of up to four
/// observe one after the other.
///
/// ```
/// use bevy_infformer::{Observe, infformer::{ChannelGroup, Scale}};
///
/// struct Bush { x: f32, y: f32 }
///
/// impl Observe for Bush {
///     fn groups() -> Vec<ChannelGroup> {
///         vec![ChannelGroup::new("position", &["x", "y"], "m", Scale::Given(1.0))]
///     }
///     fn write(&self, channels: &mut Vec<f32>) {
///         channels.extend([self.x, self.y]);
///     }
/// }
/// ```
pub trait Observe {
    /// The groups that [`Observe::write`] fills, in order.
    fn groups() -> Vec<ChannelGroup>;

    /// Appends one value a channel.
    fn write(&self, channels: &mut Vec<f32>);
}

macro_rules! observe_tuple {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Observe),+> Observe for ($($name,)+) {
            fn groups() -> Vec<ChannelGroup> {
                [$($name::groups()),+].concat()
            }

            fn write(&self, channels: &mut Vec<f32>) {
                $(self.$index.write(channels);)+
            }
        }
    };
}

observe_tuple!(A 0, B 1);
observe_tuple!(A 0, B 1, C 2);
observe_tuple!(A 0, B 1, C 2, D 3);

/// What an agent saw and has not yet handed to its memory.
#[derive(Component, Reflect, Debug, Default)]
#[reflect(Component, Debug, Default)]
#[component(clone_behavior = Ignore)]
pub struct Observations {
    /// The present tick.
    pub(crate) tick: u64,
    /// Observations pushed before the memory was there, which nobody kept.
    before_memory: u64,
    #[reflect(ignore)]
    pub(crate) queue: Option<ObservationQueue>,
    #[reflect(ignore)]
    scratch: Vec<f32>,
}

impl Observations {
    /// Pushes one observation \[d\] of the present tick. Errors: wrong width, a value that is not finite; the queue is
    /// then as before. While the memory's asset is still loading, observations are counted and dropped.
    pub fn push(&mut self, values: &[f32]) -> Result<(), Error> {
        match &mut self.queue {
            Some(queue) => queue.push(self.tick, values),
            None => {
                self.before_memory += 1;
                Ok(())
            }
        }
    }

    /// Pushes what `seen` makes of itself. Errors: as [`Observations::push`].
    pub fn see<T: Observe>(&mut self, seen: &T) -> Result<(), Error> {
        let mut values = std::mem::take(&mut self.scratch);
        values.clear();
        seen.write(&mut values);
        let pushed = self.push(&values);
        self.scratch = values;
        pushed
    }

    /// Observations waiting for the next submission.
    pub fn waiting(&self) -> usize {
        self.queue.as_ref().map_or(0, ObservationQueue::len)
    }

    /// How often two observations became one, because the worker lagged.
    pub fn coalesced(&self) -> u64 {
        self.queue.as_ref().map_or(0, ObservationQueue::coalesced)
    }

    /// Observations pushed before the memory was there, which nobody kept.
    pub fn before_memory(&self) -> u64 {
        self.before_memory
    }
}
