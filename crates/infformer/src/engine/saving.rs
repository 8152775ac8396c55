//! Memories as bytes, and back.

use super::{AgentId, Engine};
use crate::error::{Result, SnapshotError};
use crate::snapshot;

/// How a loaded memory's ticks go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedClock {
    /// The ticks are still those of the save: replays, a configuration that changed meanwhile.
    Kept,
    /// The newest saved observation counts as one of this tick: a new session whose ticks begin anew, a saved game.
    NewestAt(u64),
}

impl Engine {
    /// One agent's memory as bytes: versioned, with a fingerprint of the configuration and a checksum.
    pub fn save(&mut self, agent: AgentId) -> Result<Vec<u8>> {
        let slot = self.slot(agent)?;
        let state = self.save_slot(slot)?;
        snapshot::encode(self.fingerprint, &self.plan, &[(agent, state)])
    }

    /// Puts a saved memory in place of an agent's own. Errors say why bytes are refused; the memory is then as before.
    pub fn load(&mut self, agent: AgentId, bytes: &[u8], clock: LoadedClock) -> Result<()> {
        let slot = self.slot(agent)?;
        let lengths = self.plan.float_lengths();
        let mut agents = snapshot::decode(bytes, self.fingerprint, &self.plan, &lengths)?;
        match agents.as_mut_slice() {
            [(_, state)] => {
                if let LoadedClock::NewestAt(tick) = clock {
                    state.counters.newest_tick = tick;
                }
                self.forget_watched(slot);
                self.restore_slot(slot, state)
            }
            other => {
                let message = format!("it holds {} agents; use Engine::load_all", other.len());
                Err(SnapshotError::Header(message).into())
            }
        }
    }

    /// All agents' memories as bytes.
    pub fn save_all(&mut self) -> Result<Vec<u8>> {
        let living: Vec<AgentId> = self.living().collect();
        let save = |agent: AgentId| Ok((agent, self.save_slot(agent.slot())?));
        let agents: Vec<_> = living.into_iter().map(save).collect::<Result<_>>()?;
        snapshot::encode(self.fingerprint, &self.plan, &agents)
    }

    /// Replaces all agents by the saved ones, under the ids that they had. Errors: as [`Engine::load`].
    pub fn load_all(&mut self, bytes: &[u8]) -> Result<()> {
        let lengths = self.plan.float_lengths();
        let agents = snapshot::decode(bytes, self.fingerprint, &self.plan, &lengths)?;
        let living: Vec<AgentId> = self.living().collect();
        living.into_iter().try_for_each(|agent| self.remove(agent))?;
        for (agent, state) in agents {
            self.spawn_as(agent)?;
            self.restore_slot(agent.slot(), &state)?;
        }
        Ok(())
    }
}
