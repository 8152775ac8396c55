//! A query built by hand: tick the channels that matter, set their values, ask.

use bevy_egui::egui;
use bevy_infformer::infformer::{ChannelLayout, Query};

/// State of the builder.
#[derive(Debug, Default)]
pub struct QueryBuilder {
    /// Which query the panel shows.
    pub source: QuerySource,
    drafts: Vec<Draft>,
}

/// Which query the panel shows the answer of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuerySource {
    /// The first of those that the agent asked last.
    #[default]
    Agent,
    /// The one built by hand.
    Own,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Draft {
    Free(f32),
    Fixed(f32),
}

impl QueryBuilder {
    /// The query built so far; `None` while no channel is fixed.
    pub fn query(&self) -> Option<Query> {
        let fixed = |draft: &Draft| match draft {
            Draft::Free(_) => None,
            Draft::Fixed(value) => Some(*value),
        };
        let values: Vec<Option<f32>> = self.drafts.iter().map(fixed).collect();
        values.iter().any(Option::is_some).then(|| Query::from_masked(&values))
    }
}

/// Draws the builder.
pub fn show(ui: &mut egui::Ui, builder: &mut QueryBuilder, layout: &ChannelLayout) {
    builder.drafts.resize(layout.width(), Draft::Free(0.0));
    ui.horizontal(|ui| {
        ui.selectable_value(&mut builder.source, QuerySource::Agent, "what the agent asks");
        ui.selectable_value(&mut builder.source, QuerySource::Own, "my own query");
    });
    if builder.source == QuerySource::Agent {
        return;
    }
    egui::Grid::new("query").num_columns(2).spacing([10.0, 2.0]).show(ui, |ui| {
        for (channel, draft) in builder.drafts.iter_mut().enumerate() {
            let (mut fixed, mut value) = match *draft {
                Draft::Free(value) => (false, value),
                Draft::Fixed(value) => (true, value),
            };
            ui.checkbox(&mut fixed, &layout.names()[channel]);
            let suffix = format!(" {}", layout.units()[channel]);
            let edited = ui.add(egui::DragValue::new(&mut value).speed(0.05).suffix(suffix));
            // Whoever sets a value means it.
            *draft = if fixed || edited.changed() { Draft::Fixed(value) } else { Draft::Free(value) };
            ui.end_row();
        }
    });
    if builder.query().is_none() {
        ui.weak("tick a channel to ask by it");
    }
}
