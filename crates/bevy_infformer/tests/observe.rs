//! From components to channels.
#![allow(clippy::unwrap_used)]

use bevy_infformer::Observe;
use bevy_infformer::infformer::{ChannelGroup, ChannelLayout, Scale};

struct Place(f32, f32);
struct Threat(f32);

impl Observe for Place {
    fn groups() -> Vec<ChannelGroup> {
        vec![ChannelGroup::new("position", &["x", "y"], "m", Scale::Given(1.0))]
    }
    fn write(&self, channels: &mut Vec<f32>) {
        channels.extend([self.0, self.1]);
    }
}

impl Observe for Threat {
    fn groups() -> Vec<ChannelGroup> {
        vec![ChannelGroup::new("threat", &["level"], "", Scale::Learnt)]
    }
    fn write(&self, channels: &mut Vec<f32>) {
        channels.push(self.0);
    }
}

#[test]
fn tuples_observe_one_after_the_other() {
    let layout = ChannelLayout::new(&<(Place, Threat)>::groups()).unwrap();
    assert_eq!(layout.names(), ["position.x", "position.y", "threat.level"]);
    assert_eq!(layout.group("threat").unwrap(), 2..3);
    let mut channels = vec![];
    (Place(1.0, 2.0), Threat(3.0)).write(&mut channels);
    assert_eq!(channels, [1.0, 2.0, 3.0]);
}
