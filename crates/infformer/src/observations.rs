//! The bounded queue between the one who sees and the one who remembers.

use crate::channels::ChannelLayout;
use crate::error::{Error, Result};
use std::sync::Arc;

/// Observations of one agent on their way to its memory, oldest first.
///
/// When full, the two oldest become one (their mean, at the newer tick; of tokens, the newer), so that pushing never
/// blocks, never grows and loses nothing silently: [`ObservationQueue::coalesced`] counts.
#[derive(Debug, Clone)]
pub struct ObservationQueue {
    layout: Arc<ChannelLayout>,
    capacity: usize,
    head: usize,
    entries: Vec<Entry>,
    /// Ring of rows, `capacity` × d at most: as many as have been needed so far, so that the queues of many agents lie
    /// close together.
    values: Vec<f32>,
    coalesced: u64,
    newest_tick: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    tick: u64,
    /// Observations that this entry stands for.
    weight: u32,
}

impl ObservationQueue {
    /// A queue of at most `capacity` observations (at least 2) of the given layout.
    pub fn new(layout: Arc<ChannelLayout>, capacity: usize) -> Self {
        let capacity = capacity.max(2);
        Self { layout, capacity, head: 0, entries: vec![], values: vec![], coalesced: 0, newest_tick: None }
    }

    /// Adds an observation \[d\]. Errors: wrong width, a value that is not finite, a token that is not known, a tick
    /// before the newest; the queue is then as before.
    pub fn push(&mut self, tick: u64, values: &[f32]) -> Result<()> {
        self.layout.check("the observation", values)?;
        if let Some(newest) = self.newest_tick
            && tick < newest
        {
            return Err(Error::TickOrder { newest, found: tick });
        }
        self.newest_tick = Some(tick);
        let entry = Entry { tick, weight: 1 };
        let row = if self.entries.len() < self.capacity {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            self.coalesce_oldest();
            let row = self.head;
            self.entries[row] = entry;
            self.head = (self.head + 1) % self.capacity;
            row
        };
        let width = self.layout.width();
        if self.values.len() < (row + 1) * width {
            self.values.resize((row + 1) * width, 0.0);
        }
        self.values[row * width..(row + 1) * width].copy_from_slice(values);
        Ok(())
    }

    /// Folds the oldest entry into the one after it; the row of the oldest becomes free.
    fn coalesce_oldest(&mut self) {
        let width = self.layout.width();
        let (oldest, next) = (self.head, (self.head + 1) % self.capacity);
        let weight = self.entries[oldest].weight.saturating_add(self.entries[next].weight);
        let share = self.entries[oldest].weight as f32 / weight as f32;
        self.entries[next].weight = weight;
        self.coalesced += 1;
        let numbers = self.layout.vocabularies().iter().enumerate().filter(|(_, vocabulary)| vocabulary.is_none());
        for (channel, _) in numbers {
            let (old, new) = (self.values[oldest * width + channel], self.values[next * width + channel]);
            self.values[next * width + channel] = new + (old - new) * share;
        }
    }

    /// The observations, oldest first: tick and values \[d\].
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[f32])> {
        let width = self.layout.width();
        (0..self.entries.len()).map(move |i| {
            let row = (self.head + i) % self.capacity;
            (self.entries[row].tick, &self.values[row * width..(row + 1) * width])
        })
    }

    /// Observation number `index`, 0 the oldest.
    pub(crate) fn get(&self, index: usize) -> Option<(u64, &[f32])> {
        let width = self.layout.width();
        let row = (self.head + index) % self.capacity;
        (index < self.entries.len()).then(|| (self.entries[row].tick, &self.values[row * width..(row + 1) * width]))
    }

    /// The values of the rows in use, as they lie in memory.
    pub(crate) fn rows_in_use(&self) -> &[f32] {
        &self.values[..self.entries.len() * self.layout.width()]
    }

    /// Observations waiting.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The most that can wait.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How often two observations became one since the queue was made.
    pub fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// Forgets what waits, and the newest tick; keeps the buffers and the count.
    pub fn reset(&mut self) {
        self.clear();
        self.newest_tick = None;
    }

    /// Moves all waiting observations into `other`, which takes the place of what it held. Both keep their buffers.
    pub fn move_into(&mut self, other: &mut ObservationQueue) {
        std::mem::swap(&mut self.entries, &mut other.entries);
        std::mem::swap(&mut self.values, &mut other.values);
        std::mem::swap(&mut self.head, &mut other.head);
        std::mem::swap(&mut self.capacity, &mut other.capacity);
        other.newest_tick = self.newest_tick;
        self.clear();
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.head = 0;
    }

    /// What an observation is made of.
    pub fn layout(&self) -> &Arc<ChannelLayout> {
        &self.layout
    }
}
