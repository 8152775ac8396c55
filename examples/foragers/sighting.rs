//! A sighting as channels of an observation, and back.

use crate::world::{KINDS, Remembered, Sighting, TICKS_A_SECOND};
use bevy::math::Vec2;
use bevy_infformer::Observe;
use infformer::{Answer, Channel, ChannelGroup, MemoryConfig, Query, Scale};

/// Channels in the order of [`Observe::write`]: x, y, ripe, then one a kind.
const FIRST_KIND: usize = 3;

impl Observe for Sighting {
    fn groups() -> Vec<ChannelGroup> {
        let channel = |name: &str, unit: &str, scale: f32| Channel {
            name: name.into(),
            unit: unit.into(),
            scale: Scale::Given(scale),
        };
        let mut channels = vec![channel("x", "m", 5.0), channel("y", "m", 5.0), channel("ripe", "", 1.0)];
        channels.extend(KINDS.iter().map(|kind| channel(kind, "", 1.0)));
        // What, where and in which state: they change together, when another bush comes into sight.
        vec![ChannelGroup { name: "sighting".into(), channels }]
    }

    fn write(&self, channels: &mut Vec<f32>) {
        channels.extend([self.place.x, self.place.y, self.ripe]);
        channels.extend((0..KINDS.len()).map(|kind| f32::from(u8::from(kind == self.kind))));
    }
}

/// A preset, as the foragers use it: their tick, and as many peaks as there may be bushes of a kind in memory.
pub fn memory(preset: fn(Vec<ChannelGroup>) -> MemoryConfig) -> MemoryConfig {
    let mut config = preset(Sighting::groups());
    config.seconds_per_tick = 1.0 / TICKS_A_SECOND;
    config.recall.peaks = 24;
    config
}

/// "When and where did I see one of this kind?"
pub fn query(kind: usize) -> Query {
    let mut query = Query::new();
    query.constrain(FIRST_KIND + kind, 1.0);
    query
}

/// The peaks of an answer as remembered sightings, appended to `remembered`.
pub fn remembered(answer: &Answer, remembered: &mut Vec<Remembered>) {
    remembered.extend(answer.peaks().map(|peak| Remembered {
        place: Vec2::new(peak.value[0], peak.value[1]),
        ripe: peak.value[2].clamp(0.0, 1.0),
        age: peak.age / TICKS_A_SECOND,
        confidence: peak.confidence,
    }));
}
