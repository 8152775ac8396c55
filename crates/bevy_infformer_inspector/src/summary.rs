//! How much is remembered in how many bytes, and how the workers do.

use crate::panel::seconds;
use bevy_egui::egui;
use bevy_infformer::infformer::{MemoryConfig, MemoryView, RuntimeDiagnostics};

/// Draws the figures of one agent.
pub fn show_memory(ui: &mut egui::Ui, view: &MemoryView, config: &MemoryConfig) {
    egui::Grid::new("memory summary").num_columns(4).spacing([10.0, 2.0]).show(ui, |ui| {
        let lived = view.lived as f32 * config.seconds_per_tick;
        ui.weak("remembers");
        ui.label(format!("{} observations", view.observations));
        ui.weak("over");
        ui.label(seconds(lived));
        ui.end_row();
        let ratio = view.history_bytes as f64 / view.bytes as f64;
        ui.weak("in");
        ui.label(format!("{:.1} KiB", view.bytes as f64 / 1024.0));
        ui.weak("history / memory");
        ui.label(if ratio >= 10.0 { format!("{ratio:.0} x") } else { format!("{ratio:.1} x") });
        ui.end_row();
        ui.weak("policy");
        ui.label(config.forgetting.name());
        ui.weak("N");
        ui.label(config.capacity.to_string());
        ui.end_row();
    });
}

/// Draws the figures of the runtime.
pub fn show_workers(ui: &mut egui::Ui, diagnostics: &RuntimeDiagnostics) {
    egui::Grid::new("workers").num_columns(4).spacing([10.0, 2.0]).show(ui, |ui| {
        let rows: [(&str, String); 8] = [
            ("agents", diagnostics.agents.to_string()),
            ("batch", diagnostics.batch_size.to_string()),
            ("under way", diagnostics.queue_depth.to_string()),
            ("step", format!("{:.2} ms", diagnostics.step_time.as_secs_f64() * 1e3)),
            ("late replies", diagnostics.late_replies.to_string()),
            ("put off", diagnostics.deferred.to_string()),
            ("lost", diagnostics.lost_observations.to_string()),
            ("failures", diagnostics.failures.to_string()),
        ];
        for pair in rows.chunks(2) {
            for (name, value) in pair {
                ui.weak(*name);
                ui.label(value);
            }
            ui.end_row();
        }
    });
}
