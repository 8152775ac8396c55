//! The panel as a whole: takes data, draws it, changes nothing but the inspector's own state.

use crate::inspector::MemoryInspector;
use crate::model_view::{self, ModelData};
use crate::{agent_list, density_strip, memory_map, query_builder, summary};
use bevy::prelude::Entity;
use bevy_egui::egui;
use bevy_infformer::infformer::{ChannelLayout, MemoryConfig, MemoryView, RuntimeDiagnostics};

/// What the panel draws from, besides the inspector's own state.
pub struct PanelData<'a> {
    /// All agents with a memory.
    pub agents: &'a [Entity],
    /// Names an agent.
    pub label: &'a dyn Fn(Entity) -> String,
    /// Configuration, layout and runtime of the selected agent.
    pub memory: Option<(&'a MemoryConfig, &'a ChannelLayout, &'a RuntimeDiagnostics)>,
    /// The selected agent's model, where it has one instead.
    pub model: Option<ModelData<'a>>,
}

/// Draws the panel into `ui`.
pub fn show(ui: &mut egui::Ui, inspector: &mut MemoryInspector, data: &PanelData) {
    ui.heading("Memory");
    let clicked = agent_list::show(ui, &mut inspector.agents, data.agents, inspector.selected, data.label);
    if let Some(agent) = clicked {
        inspector.select(agent);
    }
    ui.separator();
    if let Some(model) = &data.model {
        return model_view::show(ui, model);
    }
    let Some((config, layout, diagnostics)) = data.memory else {
        ui.weak("click an agent, in the list or in the world");
        return;
    };
    egui::ScrollArea::vertical().id_salt("memory").auto_shrink([false, false]).show(ui, |ui| {
        if let Some(error) = &inspector.error {
            ui.colored_label(ui.visuals().error_fg_color, error);
        }
        if let Some(view) = &inspector.view {
            summary::show_memory(ui, view, config);
            ui.add_space(6.0);
            let seconds_per_tick = config.seconds_per_tick;
            memory_map::show(ui, &mut inspector.map, view, seconds_per_tick);
            query_builder::show(ui, &mut inspector.query, layout);
            match &view.answer {
                Some(answer) if !answer.value.is_empty() => {
                    density_strip::show(ui, view, answer, seconds_per_tick);
                }
                _ => {
                    ui.weak("nothing is asked");
                }
            }
            egui::CollapsingHeader::new(format!("short-term memory ({})", view.short_term_ages.len()))
                .id_salt("short-term header")
                .show(ui, |ui| show_short_term(ui, view, seconds_per_tick));
        } else {
            ui.weak("the memory is on its way");
        }
        egui::CollapsingHeader::new("workers").show(ui, |ui| summary::show_workers(ui, diagnostics));
    });
}

fn show_short_term(ui: &mut egui::Ui, view: &MemoryView, seconds_per_tick: f32) {
    let layout = &*view.layout;
    let row_height = ui.text_style_height(&egui::TextStyle::Small);
    let area = egui::ScrollArea::vertical().id_salt("short term").max_height(120.0);
    area.show_rows(ui, row_height, view.short_term_ages.len(), |ui, rows| {
        for row in rows {
            let value = &view.short_term[row * layout.width()..(row + 1) * layout.width()];
            let age = seconds(view.short_term_ages[row] * seconds_per_tick);
            ui.small(format!("{age}: {}", density_strip::decode(layout, value)));
        }
    });
}

/// A length of time in words that fit a label.
pub fn seconds(seconds: f32) -> String {
    match seconds {
        s if s.is_nan() => "?".into(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5_940.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}
