//! The list of agents, with search. Only the visible rows are drawn.

use bevy::prelude::Entity;
use bevy_egui::egui;

/// State of the list.
#[derive(Debug, Default)]
pub struct AgentList {
    /// Only agents whose label contains this are listed.
    pub search: String,
    /// Positions in the list of those that match, made anew when the search or the number of agents changes.
    matches: Vec<usize>,
    matched: Option<(String, usize)>,
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
        ui.label(format!("{} agents", agents.len()));
        ui.add(egui::TextEdit::singleline(&mut list.search).hint_text("search").desired_width(140.0));
    });
    list.update(agents, label);
    let mut clicked = None;
    let row_height = ui.text_style_height(&egui::TextStyle::Body);
    let area = egui::ScrollArea::vertical().id_salt("agents").max_height(90.0).auto_shrink([false, true]);
    area.show_rows(ui, row_height, list.matches.len(), |ui, rows| {
        for row in rows {
            let Some(&agent) = list.matches.get(row).and_then(|at| agents.get(*at)) else { continue };
            if ui.selectable_label(selected == Some(agent), label(agent)).clicked() {
                clicked = Some(agent);
            }
        }
    });
    clicked
}

impl AgentList {
    fn update(&mut self, agents: &[Entity], label: &dyn Fn(Entity) -> String) {
        let current = Some((self.search.as_str(), agents.len()));
        if self.matched.as_ref().map(|(search, count)| (search.as_str(), *count)) == current {
            return;
        }
        self.matched = Some((self.search.clone(), agents.len()));
        let wanted = self.search.to_lowercase();
        let all = 0..agents.len();
        self.matches.clear();
        if wanted.is_empty() {
            self.matches.extend(all);
        } else {
            self.matches.extend(all.filter(|at| label(agents[*at]).to_lowercase().contains(&wanted)));
        }
    }
}
