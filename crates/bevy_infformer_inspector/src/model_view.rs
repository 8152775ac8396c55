//! What an agent with a trained model says, and where its last layer looked in the past.

use crate::density_strip;
use crate::summary;
use bevy_egui::egui;
use bevy_infformer::Recall;
use bevy_infformer::infformer::model::ModelConfig;
use bevy_infformer::infformer::{DensityCell, RuntimeDiagnostics};

/// An agent's model, what came of it last, and the runtime.
pub struct ModelData<'a> {
    /// Sizes and heads.
    pub config: &'a ModelConfig,
    /// Its newest outputs.
    pub recall: &'a Recall,
    /// How the workers do.
    pub diagnostics: &'a RuntimeDiagnostics,
}

/// Draws the model's memory over age (logarithmic), and its heads.
pub fn show(ui: &mut egui::Ui, data: &ModelData) {
    let ModelData { config, recall, diagnostics } = data;
    if let Some(error) = &recall.error {
        ui.colored_label(ui.visuals().error_fg_color, error);
    }
    let ModelConfig { layers, width, short_term, long_term, .. } = config;
    let layers = if *layers == 1 { "1 layer".to_string() } else { format!("{layers} layers") };
    let beyond = long_term.as_ref().map(|long_term| format!(" and N = {} for all before", long_term.capacity));
    ui.label(format!("a model: {layers}, d = {width}, the last {short_term} ticks{}", beyond.unwrap_or_default()));
    ui.add_space(6.0);
    match newest_and_oldest(recall.density()) {
        Some([newest, oldest]) => {
            let axis = |age: f32| age.max(0.0).ln_1p();
            let place = |age: f32| (axis(age) - axis(newest)) / (axis(oldest) - axis(newest)).max(f32::MIN_POSITIVE);
            density_strip::draw(ui, recall.density(), place);
            ui.label(format!("where it looked, {newest:.0} to {oldest:.0} ticks ago"));
            if let Some(cell) = recall.density().iter().max_by(|a, b| a.mass.total_cmp(&b.mass)) {
                let share = 100.0 * cell.mass;
                ui.label(format!("most of all {:.0} to {:.0} ticks ago: {share:.0} %", cell.newer, cell.older));
            }
        }
        None => {
            ui.weak("nothing has left its window yet");
        }
    }
    ui.add_space(6.0);
    egui::Grid::new("heads").num_columns(2).spacing([10.0, 2.0]).show(ui, |ui| {
        for (head, values) in config.heads.iter().zip(recall.heads()) {
            let values: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
            ui.weak(&head.name);
            ui.label(values.join("  "));
            ui.end_row();
        }
    });
    egui::CollapsingHeader::new("workers").show(ui, |ui| summary::show_workers(ui, diagnostics));
}

fn newest_and_oldest(cells: &[DensityCell]) -> Option<[f32; 2]> {
    let newest = cells.iter().map(|cell| cell.newer).reduce(f32::min)?;
    Some([newest, cells.iter().map(|cell| cell.older).fold(newest, f32::max)])
}
