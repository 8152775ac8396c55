//! Memories as bytes: for saved games, and for robots that restart.
//!
//! Layout, little-endian: `INFFMEM\0`, format version (u32), configuration fingerprint (u64), header length (u32),
//! body length (u64), RON header, body, and the xxh3 checksum (u64) of all before it. The header lists the agents
//! and their counters; the body holds their floats and block lengths, one agent after the other.

use crate::arena::SlotState;
use crate::blocks::cover;
use crate::engine::AgentId;
use crate::error::{Result, SnapshotError};
use crate::plan::{Counters, MemoryPlan};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"INFFMEM\0";
const VERSION: u32 = 1;
/// Slots beyond this are taken for damage.
const MOST_SLOTS: u32 = 1 << 24;
/// Magic, version, fingerprint, header length, body length.
const PREFIX: usize = 8 + 4 + 8 + 4 + 8;
const CHECKSUM: usize = 8;

#[derive(Serialize, Deserialize)]
struct Header {
    agents: Vec<AgentHeader>,
}

#[derive(Serialize, Deserialize)]
struct AgentHeader {
    slot: u32,
    generation: u32,
    observations: u64,
    written: u64,
    newest_tick: u64,
    lived: u64,
    head: u32,
    held: u32,
}

pub(crate) fn encode(fingerprint: u64, plan: &MemoryPlan, agents: &[(AgentId, SlotState)]) -> Result<Vec<u8>> {
    let describe = |(agent, state): &(AgentId, SlotState)| {
        let Counters { observations, written, newest_tick, lived, head, held } = state.counters;
        let AgentId { slot, generation } = *agent;
        AgentHeader { slot, generation, observations, written, newest_tick, lived, head, held }
    };
    let header = Header { agents: agents.iter().map(describe).collect() };
    let header = ron::to_string(&header).map_err(|error| SnapshotError::Header(error.to_string()))?;
    let mut body = vec![];
    for (_, state) in agents {
        let long_term = plan.row_by_row(&state.floats[0]);
        let floats = long_term.iter().chain(state.floats[1..].iter().flatten());
        floats.for_each(|value| body.extend(value.to_le_bytes()));
        state.lengths.iter().for_each(|length| body.extend(length.to_le_bytes()));
    }
    let mut bytes = Vec::with_capacity(PREFIX + header.len() + body.len() + CHECKSUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(fingerprint.to_le_bytes());
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(body);
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes);
    bytes.extend(checksum.to_le_bytes());
    Ok(bytes)
}

/// Reads a snapshot for a memory of the given plan; `float_lengths` are those of one slot.
pub(crate) fn decode(
    bytes: &[u8],
    fingerprint: u64,
    plan: &MemoryPlan,
    float_lengths: &[usize],
) -> std::result::Result<Vec<(AgentId, SlotState)>, SnapshotError> {
    if !bytes.starts_with(MAGIC) {
        return Err(SnapshotError::Foreign);
    }
    let truncated = |expected: usize| SnapshotError::Truncated { expected, found: bytes.len() };
    let mut prefix = Reader(bytes.get(MAGIC.len()..PREFIX).ok_or(truncated(PREFIX))?);
    let version = prefix.u32();
    if version != VERSION {
        return Err(SnapshotError::Version { expected: VERSION, found: version });
    }
    let found_fingerprint = prefix.u64();
    let header_length = prefix.u32() as usize;
    let body_length = usize::try_from(prefix.u64()).unwrap_or(usize::MAX);
    let end = PREFIX.saturating_add(header_length).saturating_add(body_length);
    if bytes.len() != end.saturating_add(CHECKSUM) {
        return Err(truncated(end.saturating_add(CHECKSUM)));
    }
    let expected = Reader(&bytes[end..]).u64();
    let found = xxhash_rust::xxh3::xxh3_64(&bytes[..end]);
    if expected != found {
        return Err(SnapshotError::Corrupted { expected, found });
    }
    if found_fingerprint != fingerprint {
        return Err(SnapshotError::Configuration { expected: fingerprint, found: found_fingerprint });
    }
    let header = std::str::from_utf8(&bytes[PREFIX..PREFIX + header_length]);
    let header = header.map_err(|error| SnapshotError::Header(error.to_string()))?;
    let header: Header = ron::from_str(header).map_err(|error| SnapshotError::Header(error.to_string()))?;

    let values = float_lengths.iter().sum::<usize>() + plan.lengths_length();
    if Some(body_length) != values.checked_mul(4 * header.agents.len()) {
        let agents = header.agents.len();
        return Err(SnapshotError::Header(format!("{agents} agents need another body than {body_length} bytes")));
    }
    let mut body = Reader(&bytes[PREFIX + header_length..end]);
    header.agents.iter().map(|agent| decode_agent(agent, &mut body, plan, float_lengths)).collect()
}

fn decode_agent(
    header: &AgentHeader,
    body: &mut Reader,
    plan: &MemoryPlan,
    float_lengths: &[usize],
) -> std::result::Result<(AgentId, SlotState), SnapshotError> {
    let AgentHeader { slot, generation, observations, written, newest_tick, lived, head, held } = *header;
    let rows = plan.short_term_rows() as u32;
    if head >= rows || held > rows || written.checked_add(u64::from(held)) != Some(observations) {
        return Err(SnapshotError::Header(format!("the counters of agent {slot}v{generation} contradict each other")));
    }
    let mut floats = |length: &usize| (0..*length).map(|_| f32::from_bits(body.u32())).collect();
    let mut floats: Vec<Vec<f32>> = float_lengths.iter().map(&mut floats).collect();
    floats[0] = plan.as_kept(&floats[0]);
    if floats.iter().flatten().any(|value| !value.is_finite()) {
        return Err(SnapshotError::Header(format!("agent {slot}v{generation} holds values that are not finite")));
    }
    let lengths: Vec<u32> = (0..plan.lengths_length()).map(|_| body.u32()).collect();
    let count = written.min(plan.config.capacity as u64) as usize;
    let whole = |lengths: &[u32]| {
        let (used, unused) = lengths.split_at(count);
        cover(used, written) && used.iter().all(|length| *length > 0) && unused.iter().all(|length| *length == 0)
    };
    if slot >= MOST_SLOTS || !lengths.chunks_exact(plan.config.capacity + 1).all(whole) {
        return Err(SnapshotError::Header(format!("the blocks of agent {slot}v{generation} do not cover its history")));
    }
    let counters = Counters { observations, written, newest_tick, lived, head, held };
    Ok((AgentId { slot, generation }, SlotState { counters, floats, lengths }))
}

/// Little-endian numbers from bytes whose length was checked before.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn take<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut taken = [0; LENGTH];
        let (now, rest) = self.0.split_at(LENGTH.min(self.0.len()));
        taken[..now.len()].copy_from_slice(now);
        self.0 = rest;
        taken
    }
}
