//! The memory as a heat map: channels down, age to the right on a logarithmic axis.

use crate::panel::seconds;
use bevy_egui::egui::{self, Color32};
use bevy_infformer::infformer::{ChannelLayout, MemoryView};

/// Height of a channel's row in points.
const ROW: f32 = 13.0;
/// Width of the channels' names in points.
pub(crate) const NAMES: f32 = 104.0;

/// State of the map: which layer is shown, and its picture.
#[derive(Default)]
pub struct MemoryMap {
    /// What the colours mean.
    pub layer: MapLayer,
    picture: Option<Picture>,
}

/// What the colours of the map mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MapLayer {
    /// The remembered values, each channel from its least to its greatest.
    #[default]
    Values,
    /// How sharply an age is still resolved: bright is sharp.
    Resolution,
    /// What the last write changed, blue down and red up.
    Change,
}

/// The picture of one layer of one view.
struct Picture {
    texture: egui::TextureHandle,
    layer: MapLayer,
    stamp: (u64, u64),
}

/// Draws the map with its axis. `seconds_per_tick` turns ages into seconds.
pub fn show(ui: &mut egui::Ui, map: &mut MemoryMap, view: &MemoryView, seconds_per_tick: f32) {
    let layout = &*view.layout;
    ui.horizontal(|ui| {
        ui.selectable_value(&mut map.layer, MapLayer::Values, "values");
        ui.selectable_value(&mut map.layer, MapLayer::Resolution, "resolution");
        ui.selectable_value(&mut map.layer, MapLayer::Change, "last write");
    });
    if map.layer == MapLayer::Change && view.change.is_empty() {
        ui.weak("nothing was written since this agent was selected");
        return;
    }
    map.paint(ui.ctx(), view);
    let size = egui::vec2(ui.available_width(), ROW * layout.width() as f32);
    let (area, response) = ui.allocate_exact_size(size, egui::Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::WidgetType::Image, true, "memory map"));
    for (channel, name) in layout.names().iter().enumerate() {
        let at = egui::pos2(area.left(), area.top() + ROW * (channel as f32 + 0.5));
        ui.painter().text(
            at,
            egui::Align2::LEFT_CENTER,
            name,
            egui::FontId::proportional(11.0),
            ui.visuals().text_color(),
        );
    }
    let picture = egui::Rect::from_min_max(egui::pos2(area.left() + NAMES, area.top()), area.max);
    if let Some(painted) = &map.picture {
        let whole = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
        ui.painter().image(painted.texture.id(), picture, whole, Color32::WHITE);
    }
    if let Some(pointer) = response.hover_pos().filter(|pointer| picture.contains(*pointer)) {
        let part = (pointer - picture.min) / picture.size();
        let column = ((part.x * view.ages.len() as f32) as usize).min(view.ages.len() - 1);
        let channel = ((part.y * layout.width() as f32) as usize).min(layout.width() - 1);
        response.on_hover_ui_at_pointer(|ui| tell(ui, view, layout, channel, column, seconds_per_tick));
    }
    show_axis(ui, view, seconds_per_tick);
}

/// What one point of the map says.
fn tell(
    ui: &mut egui::Ui,
    view: &MemoryView,
    layout: &ChannelLayout,
    channel: usize,
    column: usize,
    seconds_per_tick: f32,
) {
    let at = channel * view.ages.len() + column;
    let value = view.values[at];
    ui.strong(&layout.names()[channel]);
    if value.is_nan() {
        ui.label("nothing is remembered of this age");
        return;
    }
    ui.label(format!("{value:.3} {}", layout.units()[channel]));
    ui.label(format!("{} ago", seconds(view.ages[column] * seconds_per_tick)));
    let blur = view.resolution[group_of(layout, channel) * view.ages.len() + column];
    ui.label(format!("resolved to {}", seconds(blur * seconds_per_tick)));
    if let Some(change) = view.change.get(at).filter(|change| !change.is_nan()) {
        ui.label(format!("last write: {change:+.4}"));
    }
}

/// The ages under the map.
fn show_axis(ui: &mut egui::Ui, view: &MemoryView, seconds_per_tick: f32) {
    let (area, _) = ui.allocate_exact_size(egui::vec2(ui.available_width(), 14.0), egui::Sense::hover());
    let width = area.width() - NAMES;
    let oldest = oldest(view) * seconds_per_tick;
    let mut free_from = f32::NEG_INFINITY;
    for age in [0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0, 360_000.0] {
        let x = area.left() + NAMES + width * position(view, age / seconds_per_tick);
        if age > oldest || x < free_from {
            continue;
        }
        let painted = ui.painter().text(
            egui::pos2(x, area.top()),
            egui::Align2::CENTER_TOP,
            seconds(age),
            egui::FontId::proportional(10.0),
            ui.visuals().weak_text_color(),
        );
        free_from = painted.right() + 24.0;
    }
}

/// Where an age in ticks lies on the axis, 0 to 1.
pub(crate) fn position(view: &MemoryView, age: f32) -> f32 {
    age.max(0.0).ln_1p() / oldest(view).ln_1p().max(f32::MIN_POSITIVE)
}

fn oldest(view: &MemoryView) -> f32 {
    (view.lived + view.since_newest) as f32
}

fn group_of(layout: &ChannelLayout, channel: usize) -> usize {
    layout.groups().iter().position(|(_, range)| range.contains(&channel)).unwrap_or(0)
}

impl MemoryMap {
    /// The next picture is of another agent.
    pub fn forget_picture(&mut self) {
        self.picture = None;
    }

    /// Makes the picture anew if the view or the layer is another.
    fn paint(&mut self, context: &egui::Context, view: &MemoryView) {
        let layout = &*view.layout;
        let stamp = (view.newest_tick + view.since_newest, view.observations);
        if self.picture.as_ref().is_some_and(|picture| picture.layer == self.layer && picture.stamp == stamp) {
            return;
        }
        let columns = view.ages.len();
        let mut pixels = Vec::with_capacity(columns * layout.width());
        for channel in 0..layout.width() {
            let row = channel * columns..(channel + 1) * columns;
            match self.layer {
                MapLayer::Values => paint_values(&view.values[row], &mut pixels),
                MapLayer::Change => paint_change(&view.change[row], &mut pixels),
                MapLayer::Resolution => {
                    let group = group_of(layout, channel) * columns;
                    paint_resolution(&view.resolution[group..group + columns], &view.ages, &mut pixels);
                }
            }
        }
        let image = egui::ColorImage::new([columns, layout.width()], pixels);
        match &mut self.picture {
            Some(picture) => {
                picture.texture.set(image, egui::TextureOptions::NEAREST);
                (picture.layer, picture.stamp) = (self.layer, stamp);
            }
            None => {
                let texture = context.load_texture("memory map", image, egui::TextureOptions::NEAREST);
                self.picture = Some(Picture { texture, layer: self.layer, stamp });
            }
        }
    }
}

const NOTHING: Color32 = Color32::from_gray(24);

fn paint_values(values: &[f32], pixels: &mut Vec<Color32>) {
    let known = || values.iter().copied().filter(|value| !value.is_nan());
    let (least, greatest) =
        known().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, g), value| (l.min(value), g.max(value)));
    let span = (greatest - least).max(1e-6);
    pixels.extend(values.iter().map(|value| if value.is_nan() { NOTHING } else { warm((value - least) / span) }));
}

fn paint_change(changes: &[f32], pixels: &mut Vec<Color32>) {
    let greatest =
        changes.iter().filter(|change| !change.is_nan()).fold(1e-6_f32, |most, change| most.max(change.abs()));
    pixels.extend(changes.iter().map(|change| {
        let part = change / greatest;
        match part {
            part if part.is_nan() => NOTHING,
            part if part < 0.0 => Color32::from_gray(24).lerp_to_gamma(Color32::from_rgb(90, 150, 255), -part),
            part => Color32::from_gray(24).lerp_to_gamma(Color32::from_rgb(255, 110, 80), part),
        }
    }));
}

fn paint_resolution(blurs: &[f32], ages: &[f32], pixels: &mut Vec<Color32>) {
    let sharpness =
        |(blur, age): (&f32, &f32)| if blur.is_nan() { NOTHING } else { warm(1.0 / (1.0 + blur / (age + 1.0))) };
    pixels.extend(blurs.iter().zip(ages).map(sharpness));
}

/// Dark violet over orange to pale yellow.
fn warm(part: f32) -> Color32 {
    let stops = [(30, 18, 60), (120, 30, 110), (220, 80, 60), (250, 170, 50), (252, 250, 190)];
    let at = part.clamp(0.0, 1.0) * (stops.len() - 1) as f32;
    let below = (at as usize).min(stops.len() - 2);
    let colour = |(r, g, b): (u8, u8, u8)| Color32::from_rgb(r, g, b);
    colour(stops[below]).lerp_to_gamma(colour(stops[below + 1]), at - below as f32)
}
