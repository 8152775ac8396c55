//! The list of agents, with search. Only the visible rows are drawn.

use bevy::prelude::Entity;
use bevy_egui::egui;

/// State of the list.
#[derive(Debug, Default)]
pub struct AgentList {
    /// Only agents whose label contains this are listed.
    pub search: String,
    /// The agents that match.
    matches: Vec<Entity>,
}

/// Draws the list; `label` names an agent. Gives the agent clicked, if any.
pub fn show(
    ui: &mut egui::Ui,
    list: &mut AgentList,
    agents: &[Entity],
    selected: Option<Entity>,
    label: &dyn Fn(Entity) -> String,
) -> Option<Entity> {
    ui.horizontal(|ui| {
        ui.label(format!("agents: {}", agents.len()));
        ui.add(egui::TextEdit::singleline(&mut list.search).hint_text("search").desired_width(140.0));
    });
    let wanted = list.search.to_lowercase();
    let rows = if wanted.is_empty() {
        agents
    } else {
        list.matches.clear();
        list.matches.extend(agents.iter().filter(|agent| label(**agent).to_lowercase().contains(&wanted)));
        &list.matches
    };
    let mut clicked = None;
    let row_height = ui.text_style_height(&egui::TextStyle::Body);
    let area = egui::ScrollArea::vertical().id_salt("agents").max_height(90.0).auto_shrink([false, true]);
    area.show_rows(ui, row_height, rows.len(), |ui, visible| {
        for agent in rows.get(visible).unwrap_or_default() {
            if ui.selectable_label(selected == Some(*agent), label(*agent)).clicked() {
                clicked = Some(*agent);
            }
        }
    });
    clicked
}
