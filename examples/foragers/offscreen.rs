//! A game without a window whose camera draws on an image, and the image as a PNG.

use bevy::app::ScheduleRunnerPlugin;
use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::RenderPlugin;
use bevy::render::render_resource::TextureFormat;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};
use bevy::time::TimeUpdateStrategy;
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;
use std::path::PathBuf;
use std::time::Duration;

/// Bevy's own plugins, without a window, a sixtieth of a second a frame.
pub struct OffscreenPlugin;

/// What the camera draws on.
#[derive(Resource, Default, Clone)]
pub struct Canvas(Handle<Image>);

impl Plugin for OffscreenPlugin {
    fn build(&self, app: &mut App) {
        let no_window = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
        let synchronous = RenderPlugin { synchronous_pipeline_compilation: true, ..default() };
        app.add_plugins(DefaultPlugins.set(no_window).set(synchronous).disable::<WinitPlugin>())
            .add_plugins(ScheduleRunnerPlugin::run_loop(Duration::ZERO))
            .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_micros(16_667)))
            .init_resource::<Canvas>()
            .add_systems(PostStartup, aim);
    }
}

/// Turns the camera from the window to the canvas.
fn aim(
    camera: Single<Entity, With<Camera2d>>,
    mut images: ResMut<Assets<Image>>,
    mut canvas: ResMut<Canvas>,
    mut commands: Commands,
) {
    canvas.0 = images.add(Image::new_target_texture(1280, 800, TextureFormat::Rgba8UnormSrgb, None));
    commands.entity(*camera).insert(RenderTarget::Image(canvas.0.clone().into()));
}

impl Canvas {
    /// Saves the next frame to `path` and ends the game.
    pub fn save(&self, path: PathBuf, commands: &mut Commands) {
        commands.spawn(Screenshot::image(self.0.clone())).observe(save_to_disk(path)).observe(
            |_: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>| {
                exit.write(AppExit::Success);
            },
        );
    }
}
