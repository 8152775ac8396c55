//! Keys and mouse: pan, zoom, pause, step, speed.

use crate::meadow::{GameWorld, kind_colour};
use crate::world::KINDS;
use bevy::app::FixedMain;
use bevy::input::mouse::{AccumulatedMouseMotion, AccumulatedMouseScroll, MouseScrollUnit};
use bevy::prelude::*;
use bevy::window::PrimaryWindow;
use bevy_egui::input::egui_wants_any_keyboard_input;
use bevy_egui::{EguiContexts, EguiPrimaryContextPass, egui};
use bevy_infformer::ResetMemory;
use bevy_infformer_inspector::{MemoryInspector, pointer_is_free};

/// Keys and mouse.
pub struct ControlsPlugin;

impl Plugin for ControlsPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(
            Update,
            (
                (drag, zoom).run_if(pointer_is_free),
                (pan, change_speed, step, reset_memory, quit).run_if(not(egui_wants_any_keyboard_input)),
            ),
        )
        .add_systems(EguiPrimaryContextPass, help);
    }
}

const HELP: &str = "click a forager: see its memory   F1: panel   drag, WASD, arrows: pan   wheel: zoom\n\
space: pause   . : step   + - : speed   R: forget all (selected forager)   Esc: quit";

fn help(mut contexts: EguiContexts, world: Res<GameWorld>, time: Res<Time<Virtual>>) -> Result {
    egui::Area::new(egui::Id::new("help")).fixed_pos([10.0, 8.0]).interactable(false).show(contexts.ctx_mut()?, |ui| {
        let meals: Vec<String> = world.0.foragers.iter().map(|forager| forager.meals.to_string()).collect();
        let pace = if time.is_paused() { "paused".into() } else { format!("{} x", time.relative_speed()) };
        ui.label(egui::RichText::new(format!("meals {}   {pace}", meals.join(" / "))).strong());
        ui.label(egui::RichText::new(HELP).small());
        ui.horizontal(|ui| {
            ui.label("small: bare   a forager has the colour of what it craves:");
            for (kind, name) in KINDS.iter().enumerate() {
                let [red, green, blue, _] = kind_colour(kind).to_srgba().to_u8_array();
                ui.colored_label(egui::Color32::from_rgb(red, green, blue), *name);
            }
        });
    });
    Ok(())
}

type CameraView<'w> = (&'w Camera, &'w GlobalTransform, &'w mut Transform, &'w mut Projection);

fn drag(
    mut camera: Single<(&mut Transform, &Projection), With<Camera2d>>,
    buttons: Res<ButtonInput<MouseButton>>,
    motion: Res<AccumulatedMouseMotion>,
) {
    let Projection::Orthographic(projection) = camera.1 else { return };
    let scale = projection.scale;
    if buttons.any_pressed([MouseButton::Left, MouseButton::Middle, MouseButton::Right]) {
        camera.0.translation += Vec3::new(-motion.delta.x, motion.delta.y, 0.0) * scale;
    }
}

/// Zooms at the pointer.
fn zoom(
    camera: Single<CameraView, With<Camera2d>>,
    window: Single<&Window, With<PrimaryWindow>>,
    scroll: Res<AccumulatedMouseScroll>,
) {
    let (camera, global, mut transform, mut projection) = camera.into_inner();
    let Projection::Orthographic(projection) = &mut *projection else { return };
    let lines = match scroll.unit {
        MouseScrollUnit::Line => scroll.delta.y,
        MouseScrollUnit::Pixel => scroll.delta.y / MouseScrollUnit::SCROLL_UNIT_CONVERSION_FACTOR,
    };
    let Some(pointer) = window.cursor_position().filter(|_| lines != 0.0) else { return };
    let Ok(under_pointer) = camera.viewport_to_world_2d(global, pointer) else { return };
    let scale = (projection.scale * 0.9_f32.powf(lines)).clamp(0.02, 2.0);
    let towards = under_pointer.extend(transform.translation.z) - transform.translation;
    transform.translation += towards * (1.0 - scale / projection.scale);
    projection.scale = scale;
}

fn pan(
    mut camera: Single<(&mut Transform, &Projection), With<Camera2d>>,
    keys: Res<ButtonInput<KeyCode>>,
    time: Res<Time<Real>>,
) {
    let Projection::Orthographic(projection) = camera.1 else { return };
    let distance = 400.0 * projection.scale * time.delta_secs();
    let directions = [
        ([KeyCode::KeyW, KeyCode::ArrowUp], Vec3::Y),
        ([KeyCode::KeyS, KeyCode::ArrowDown], Vec3::NEG_Y),
        ([KeyCode::KeyA, KeyCode::ArrowLeft], Vec3::NEG_X),
        ([KeyCode::KeyD, KeyCode::ArrowRight], Vec3::X),
    ];
    for (_, direction) in directions.into_iter().filter(|(either, _)| keys.any_pressed(*either)) {
        camera.0.translation += direction * distance;
    }
}

fn change_speed(keys: Res<ButtonInput<KeyCode>>, mut time: ResMut<Time<Virtual>>) {
    if keys.just_pressed(KeyCode::Space) {
        time.toggle();
    }
    let speed = time.relative_speed();
    if keys.any_just_pressed([KeyCode::Equal, KeyCode::NumpadAdd]) {
        time.set_relative_speed((speed * 2.0).min(64.0));
    }
    if keys.any_just_pressed([KeyCode::Minus, KeyCode::NumpadSubtract]) {
        time.set_relative_speed((speed / 2.0).max(0.125));
    }
}

/// One tick, while paused.
fn step(world: &mut World) {
    let asked = world.resource::<ButtonInput<KeyCode>>().just_pressed(KeyCode::Period);
    if asked && world.resource::<Time<Virtual>>().is_paused() {
        step_fixed(world, 1);
    }
}

/// Runs `ticks` fixed ticks by hand, with the clocks right.
pub fn step_fixed(world: &mut World, ticks: u32) {
    for _ in 0..ticks {
        let mut fixed = world.resource_mut::<Time<Fixed>>();
        let timestep = fixed.timestep();
        fixed.advance_by(timestep);
        let now = fixed.as_generic();
        *world.resource_mut::<Time>() = now;
        world.run_schedule(FixedMain);
    }
    let now = world.resource::<Time<Virtual>>().as_generic();
    *world.resource_mut::<Time>() = now;
}

fn reset_memory(keys: Res<ButtonInput<KeyCode>>, inspector: Res<MemoryInspector>, mut commands: Commands) {
    if let Some(entity) = inspector.selected.filter(|_| keys.just_pressed(KeyCode::KeyR)) {
        commands.trigger(ResetMemory { entity });
    }
}

fn quit(keys: Res<ButtonInput<KeyCode>>, mut exit: MessageWriter<AppExit>) {
    if keys.just_pressed(KeyCode::Escape) {
        exit.write(AppExit::Success);
    }
}
