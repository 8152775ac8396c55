//! Figures about the memories in Bevy's `DiagnosticsStore`, one measurement a tick.

use crate::memories::Memories;
use crate::observe::Observations;
use bevy::diagnostic::{Diagnostic, DiagnosticPath, Diagnostics, RegisterDiagnostic};
use bevy::prelude::*;

/// Agents in the last batches received.
pub const BATCH_SIZE: DiagnosticPath = DiagnosticPath::const_new("memory/batch_size");
/// Batches under way.
pub const QUEUE_DEPTH: DiagnosticPath = DiagnosticPath::const_new("memory/queue_depth");
/// Milliseconds that a worker spent on its last batch.
pub const STEP_TIME: DiagnosticPath = DiagnosticPath::const_new("memory/step_time");
/// Pairs of observations that became one because a worker lagged, all living agents.
pub const COALESCED: DiagnosticPath = DiagnosticPath::const_new("memory/coalesced");
/// Replies that came later than the tick after their submission.
pub const LATE_REPLIES: DiagnosticPath = DiagnosticPath::const_new("memory/late_replies");

pub(crate) fn register(app: &mut App) {
    for path in [BATCH_SIZE, QUEUE_DEPTH, COALESCED, LATE_REPLIES] {
        app.register_diagnostic(Diagnostic::new(path));
    }
    app.register_diagnostic(Diagnostic::new(STEP_TIME).with_suffix(" ms"));
}

pub(crate) fn measure(memories: Res<Memories>, observations: Query<&Observations>, mut diagnostics: Diagnostics) {
    let each = || memories.runtimes().map(|runtime| runtime.diagnostics());
    diagnostics.add_measurement(&BATCH_SIZE, || each().map(|d| d.batch_size).sum::<usize>() as f64);
    diagnostics.add_measurement(&QUEUE_DEPTH, || each().map(|d| d.queue_depth).sum::<usize>() as f64);
    diagnostics.add_measurement(&STEP_TIME, || each().map(|d| d.step_time.as_secs_f64()).fold(0.0, f64::max) * 1e3);
    diagnostics.add_measurement(&LATE_REPLIES, || each().map(|d| d.late_replies).sum::<u64>() as f64);
    diagnostics.add_measurement(&COALESCED, || observations.iter().map(|o| o.coalesced()).sum::<u64>() as f64);
}
