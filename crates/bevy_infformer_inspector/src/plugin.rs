//! The plugin: asks for looks, picks agents, draws the panel.

use crate::inspector::{Look, MemoryInspector, PanelVisibility, PointerPlace};
use crate::model_view::ModelData;
use crate::panel::{PanelData, show};
use crate::query_builder::QuerySource;
use bevy::prelude::*;
use bevy_egui::input::EguiWantsInput;
use bevy_egui::{EguiContexts, EguiPlugin, EguiPrimaryContextPass, PrimaryEguiContext, egui};
use bevy_infformer::infformer::ViewRequest;
use bevy_infformer::{Memories, MemorySlot, MemoryTick, Recall};

/// Seconds between two looks at the same memory.
const LOOK_EVERY: f64 = 0.1;
/// Seconds after which a look that did not come is asked for again.
const GIVE_UP: f64 = 2.0;
/// Columns of the map.
const COLUMNS: usize = 256;

/// Adds the panel; F1 shows and hides it. Clicking an agent in the world selects it.
#[derive(Debug, Clone, Copy)]
pub struct MemoryInspectorPlugin {
    /// How near, in world units, a click must come to an agent.
    pub pick_radius: f32,
}

impl Default for MemoryInspectorPlugin {
    fn default() -> Self {
        Self { pick_radius: 1.0 }
    }
}

#[derive(Resource)]
struct PickRadius(f32);

impl Plugin for MemoryInspectorPlugin {
    fn build(&self, app: &mut App) {
        if !app.is_plugin_added::<EguiPlugin>() {
            app.add_plugins(EguiPlugin::default());
        }
        app.init_resource::<MemoryInspector>()
            .insert_resource(PickRadius(self.pick_radius))
            .add_systems(Update, (toggle, pick.run_if(pointer_is_free), look.run_if(is_shown)))
            .add_systems(EguiPrimaryContextPass, draw.run_if(is_shown));
    }
}

/// Run condition: the pointer is over the world, not over the panel or another part of egui.
pub fn pointer_is_free(inspector: Res<MemoryInspector>, wants: Option<Res<EguiWantsInput>>) -> bool {
    let over_panel = inspector.visibility == PanelVisibility::Shown && inspector.pointer == PointerPlace::Panel;
    !over_panel && wants.is_none_or(|wants| !wants.wants_any_pointer_input())
}

fn is_shown(inspector: Res<MemoryInspector>) -> bool {
    inspector.visibility == PanelVisibility::Shown
}

fn toggle(keys: Option<Res<ButtonInput<KeyCode>>>, mut inspector: ResMut<MemoryInspector>) {
    if keys.is_some_and(|keys| keys.just_pressed(KeyCode::F1)) {
        inspector.visibility = inspector.visibility.toggled();
    }
}

/// Selects the agent nearest to the line of sight through the pointer.
fn pick(
    buttons: Option<Res<ButtonInput<MouseButton>>>,
    windows: Query<&Window>,
    cameras: Query<(&Camera, &GlobalTransform), With<PrimaryEguiContext>>,
    agents: Query<(Entity, &GlobalTransform), With<MemorySlot>>,
    radius: Res<PickRadius>,
    mut inspector: ResMut<MemoryInspector>,
) {
    if !buttons.is_some_and(|buttons| buttons.just_pressed(MouseButton::Left)) {
        return;
    }
    let pointer = windows.iter().find_map(Window::cursor_position);
    let (Some(pointer), Ok((camera, place))) = (pointer, cameras.single()) else { return };
    let Ok(ray) = camera.viewport_to_world(place, pointer) else { return };
    let distance = |agent: &GlobalTransform| {
        let to_agent = agent.translation() - ray.origin;
        (to_agent - ray.direction * to_agent.dot(*ray.direction)).length()
    };
    let near = agents.iter().map(|(entity, place)| (entity, distance(place)));
    let nearest = near.filter(|(_, distance)| *distance <= radius.0).min_by(|(_, a), (_, b)| a.total_cmp(b));
    if let Some((entity, _)) = nearest {
        inspector.select(entity);
    }
}

/// Takes the look that has come and asks for the next.
fn look(
    time: Res<Time<Real>>,
    tick: Option<Res<MemoryTick>>,
    memories: Option<ResMut<Memories>>,
    agents: Query<(&MemorySlot, &Recall)>,
    mut inspector: ResMut<MemoryInspector>,
) {
    let (Some(entity), Some(mut memories), Some(tick)) = (inspector.selected, memories, tick) else { return };
    let Ok((slot, recall)) = agents.get(entity) else {
        inspector.view = None;
        inspector.look = Look::Due;
        return;
    };
    let now = time.elapsed_secs_f64();
    match memories.take_view(slot) {
        Some(Ok(view)) => {
            (inspector.view, inspector.error, inspector.look) = (Some(view), None, Look::Came(now));
        }
        Some(Err(error)) => {
            (inspector.error, inspector.look) = (Some(error.to_string()), Look::Came(now));
        }
        None => {}
    }
    let due = match inspector.look {
        Look::Due => true,
        Look::Came(then) => now - then >= LOOK_EVERY,
        Look::Asked(then) => now - then >= GIVE_UP,
    };
    let is_model = memories.runtime(slot).is_some_and(|runtime| runtime.model().is_some());
    if due && !is_model {
        let query = match inspector.query.source {
            QuerySource::Agent => recall.asked().first().cloned(),
            QuerySource::Own => inspector.query.query(),
        };
        // A query of before the memory's channels changed is none any more.
        let layout = memories.runtime(slot).map(|runtime| runtime.layout().clone());
        let query = query.filter(|query| layout.is_some_and(|layout| query.check(&layout).is_ok()));
        if let Err(error) = memories.request_view(slot, ViewRequest { tick: tick.0, columns: COLUMNS, query }) {
            inspector.error = Some(error.to_string());
        }
        inspector.look = Look::Asked(now);
    }
}

fn draw(
    mut contexts: EguiContexts,
    mut inspector: ResMut<MemoryInspector>,
    memories: Option<Res<Memories>>,
    agents: Query<(Entity, &MemorySlot, &Recall)>,
    names: Query<&Name>,
    mut listed: Local<Vec<Entity>>,
) -> Result {
    let context = contexts.ctx_mut()?.clone();
    listed.clear();
    listed.extend(agents.iter().map(|(entity, ..)| entity));
    let label = |entity: Entity| names.get(entity).map_or_else(|_| format!("agent {entity}"), |name| name.to_string());
    let selected = inspector.selected.and_then(|entity| agents.get(entity).ok());
    let runtime = selected.and_then(|(_, slot, _)| memories.as_ref().and_then(|memories| memories.runtime(slot)));
    let memory = runtime.and_then(|runtime| Some((runtime.memory()?, &**runtime.layout(), runtime.diagnostics())));
    let model = runtime.zip(selected).and_then(|(runtime, (.., recall))| {
        Some(ModelData { config: runtime.model()?.config(), recall, diagnostics: runtime.diagnostics() })
    });
    let data = PanelData { agents: &listed, label: &label, memory, model };

    let layer = egui::UiBuilder::new().layer_id(egui::LayerId::background()).max_rect(context.viewport_rect());
    let mut root = egui::Ui::new(context.clone(), egui::Id::new("memory inspector"), layer);
    let panel = egui::Panel::right("memory panel").resizable(true).default_size(420.0).size_range(320.0..=900.0);
    let area = panel.show(&mut root, |ui| show(ui, &mut inspector, &data)).response.rect;
    // egui does not count a panel in a Ui of our own as its own ground.
    let over =
        context.pointer_latest_pos().is_some_and(|pointer| area.contains(pointer)) || context.egui_is_using_pointer();
    inspector.pointer = if over { PointerPlace::Panel } else { PointerPlace::World };
    Ok(())
}
