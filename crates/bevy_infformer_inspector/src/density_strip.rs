//! Where a query looked: the density over age under the map, on the same axis, and its peaks in words.

use crate::memory_map::{NAMES, position};
use crate::panel::seconds;
use bevy_egui::egui;
use bevy_infformer::infformer::{Answer, ChannelLayout, DensityCell, MemoryView};

const HEIGHT: f32 = 56.0;
/// Peaks told in words.
const TOLD: usize = 4;

/// Draws the density of `answer` and its peaks.
pub fn show(ui: &mut egui::Ui, view: &MemoryView, answer: &Answer, seconds_per_tick: f32) {
    let layout = &*view.layout;
    let place = |age: f32| position(view, age);
    let strip = draw(ui, &answer.density, place);
    for peak in answer.peaks().take(TOLD) {
        let x = strip.left() + strip.width() * place(peak.age).clamp(0.0, 1.0);
        ui.painter().circle_filled(egui::pos2(x, strip.top() + 4.0), 3.0, egui::Color32::WHITE);
    }
    let expected = format!(
        "confidence {:.2}; on average {} ago, ± {}",
        answer.confidence,
        seconds(answer.age * seconds_per_tick),
        seconds(answer.age_spread * seconds_per_tick)
    );
    ui.label(expected);
    for peak in answer.peaks().take(TOLD) {
        ui.horizontal_wrapped(|ui| {
            ui.strong(format!("{:.0} %", 100.0 * peak.weight));
            ui.label(format!("{} ago:", seconds(peak.age * seconds_per_tick)));
            ui.label(decode(layout, peak.value));
        });
    }
}

/// Draws the mass of `cells` over age, whose `place` is 0 to 1 from left to right; gives where.
pub(crate) fn draw(ui: &mut egui::Ui, cells: &[DensityCell], place: impl Fn(f32) -> f32) -> egui::Rect {
    let (area, response) = ui.allocate_exact_size(egui::vec2(ui.available_width(), HEIGHT), egui::Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Image, true, "density over age"));
    let strip = egui::Rect::from_min_max(egui::pos2(area.left() + NAMES, area.top()), area.max);
    let painter = ui.painter();
    let name = egui::pos2(area.left(), area.center().y);
    let font = egui::FontId::proportional(11.0);
    painter.text(name, egui::Align2::LEFT_CENTER, "p(age)", font, ui.visuals().text_color());
    painter.rect_filled(strip, 0.0, egui::Color32::from_gray(24));

    // The mass in each column of points, so that neither thin cells nor wide ones are overdrawn.
    let columns = strip.width().max(1.0) as usize;
    let mut mass = vec![0.0_f32; columns];
    for cell in cells {
        let from = (place(cell.newer).clamp(0.0, 1.0) * columns as f32).min(columns as f32 - 1.0);
        let to = (place(cell.older).clamp(0.0, 1.0) * columns as f32).max(from + 1e-3);
        for (column, mass) in mass.iter_mut().enumerate().take(to.ceil() as usize).skip(from as usize) {
            let inside = to.min(column as f32 + 1.0) - from.max(column as f32);
            *mass += cell.mass * inside / (to - from);
        }
    }
    let greatest = mass.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    for (column, mass) in mass.iter().enumerate().filter(|(_, mass)| **mass > 0.0) {
        let x = strip.left() + column as f32 + 0.5;
        let top = strip.bottom() - (HEIGHT - 4.0) * mass / greatest;
        let line = [egui::pos2(x, strip.bottom()), egui::pos2(x, top)];
        painter.line_segment(line, (1.0, egui::Color32::from_rgb(250, 170, 50)));
    }
    strip
}

/// An observation in words: `position.x 3.1 m, kind.berry 1`. Channels near zero are left out where there are many.
pub fn decode(layout: &ChannelLayout, value: &[f32]) -> String {
    let few = layout.width() <= 4;
    let told = value.iter().enumerate().filter(|(_, value)| few || value.abs() >= 0.05);
    let words: Vec<String> = told
        .map(|(channel, value)| {
            let unit = &layout.units()[channel];
            let gap = if unit.is_empty() { "" } else { " " };
            format!("{} {}{gap}{unit}", layout.names()[channel], round(*value))
        })
        .collect();
    words.join(", ")
}

fn round(value: f32) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}
