//! Whether there is a display and a GPU, asked before Bevy would panic for want of them.

use bevy::render::renderer::initialize_renderer;
use bevy::render::settings::WgpuSettings;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

/// What a window lacks here, in words; `None` if nothing.
pub fn missing() -> Option<&'static str> {
    if !has_display() {
        Some("there is no display")
    } else if !has_gpu() {
        Some("there is no Vulkan driver, not even a software one")
    } else {
        None
    }
}

fn has_display() -> bool {
    let named = |name| std::env::var(name).is_ok_and(|value: String| !value.is_empty());
    !cfg!(target_os = "linux") || ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"].into_iter().any(named)
}

/// Bevy's own start-up panics where there is no adapter; this tries it and looks.
pub fn has_gpu() -> bool {
    let settings = WgpuSettings::default();
    let Some(backends) = settings.backends else { return false };
    let hook = take_hook();
    set_hook(Box::new(|_| {}));
    let start = || bevy::tasks::block_on(initialize_renderer(backends, None, &settings));
    let found = catch_unwind(AssertUnwindSafe(start)).is_ok();
    set_hook(hook);
    found
}
