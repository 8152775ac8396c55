//! From components to channels: how what an agent sees becomes an observation.

use bevy::prelude::*;
use infformer::{ChannelGroup, ChannelLayout, Error, ObservationQueue};
use std::any::TypeId;

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
pub trait Observe: 'static {
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
    /// The type whose channels were compared with the memory's.
    #[reflect(ignore)]
    compared: Option<TypeId>,
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

    /// Pushes what `seen` makes of itself. Errors: as [`Observations::push`], and channels of `T` that are not those of
    /// the memory.
    pub fn see<T: Observe>(&mut self, seen: &T) -> Result<(), Error> {
        if let Some(queue) = &self.queue
            && self.compared != Some(TypeId::of::<T>())
        {
            let names = ChannelLayout::new(&T::groups())?;
            if names.names() != queue.layout().names() {
                let (value, allowed) = (queue.layout().names().join(", "), names.names().join(", "));
                return Err(Error::Configuration { field: "groups".into(), value, allowed });
            }
            self.compared = Some(TypeId::of::<T>());
        }
        let mut values = std::mem::take(&mut self.scratch);
        values.clear();
        seen.write(&mut values);
        let pushed = self.push(&values);
        self.scratch = values;
        pushed
    }

    /// The memory is there: from now on observations wait for it.
    pub(crate) fn attach(&mut self, tick: u64, queue: ObservationQueue) {
        (self.tick, self.queue, self.compared) = (tick, Some(queue), None);
    }

    /// Takes another queue; what waits goes along if the channels are the same.
    pub(crate) fn exchange(&mut self, mut queue: ObservationQueue) {
        if let Some(old) = self.queue.as_mut().filter(|old| old.layout() == queue.layout()) {
            old.move_into(&mut queue);
        }
        (self.queue, self.compared) = (Some(queue), None);
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
