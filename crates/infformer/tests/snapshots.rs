//! Snapshots: what was saved comes back to the bit, and bad bytes are refused with the reason.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{Agent, every_policy, group, noise};
use infformer::{Device, Engine, Error, LoadedClock, MemoryConfig, Query, SnapshotError};

fn lived(config: &MemoryConfig) -> Agent {
    let mut agent = Agent::new(config);
    (0..333).for_each(|tick| agent.see(2 * tick, &[noise(tick as usize / 9), noise(tick as usize)]));
    agent
}

#[test]
fn a_memory_comes_back_to_the_bit() {
    for mut config in every_policy(2) {
        config.short_term = 5;
        let mut first = lived(&config);
        let bytes = first.engine.save(first.id()).unwrap();
        let mut second = Agent::new(&config);
        second.engine.load(second.id(), &bytes, LoadedClock::Kept).unwrap();
        assert_eq!(second.engine.save(second.id()).unwrap(), bytes);
        // And it lives on as the first does.
        for tick in 333..400 {
            for agent in [&mut first, &mut second] {
                agent.see(2 * tick, &[noise(tick as usize), 0.1]);
            }
        }
        let query = Query::from_masked(&[Some(0.3), None]);
        assert_eq!(first.ask(900, query.clone()), second.ask(900, query), "{:?}", config.forgetting);
    }
}

#[test]
fn a_whole_arena_comes_back() {
    let config = MemoryConfig::events(group(2));
    let mut agent = lived(&config);
    let gone = agent.engine.spawn().unwrap();
    let other = agent.engine.spawn().unwrap();
    agent.engine.remove(gone).unwrap();
    let bytes = agent.engine.save_all().unwrap();
    let mut second = Engine::new(&config, &Device::Cpu).unwrap();
    second.spawn().unwrap();
    second.load_all(&bytes).unwrap();
    assert_eq!(second.living().collect::<Vec<_>>(), [agent.id(), other]);
    assert_eq!(second.save_all().unwrap(), bytes);
    assert_eq!(second.observations(agent.id()), Ok(333));
    // The slot between is free, and ids are not given twice.
    let new = second.spawn().unwrap();
    assert_eq!(new.slot(), gone.slot());
}

#[test]
fn bad_bytes_are_refused_with_the_reason() {
    let config = MemoryConfig::events(group(2));
    let mut agent = lived(&config);
    let id = agent.id();
    let bytes = agent.engine.save(id).unwrap();
    let before = agent.engine.coefficients(id).unwrap();
    let mut refuse = |bytes: &[u8]| match agent.engine.load(id, bytes, LoadedClock::Kept) {
        Err(Error::Snapshot(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refuse(b"not a snapshot at all"), SnapshotError::Foreign);
    assert_eq!(refuse(&[]), SnapshotError::Foreign);
    for length in [9, 31, 40, bytes.len() / 2, bytes.len() - 1] {
        assert!(
            matches!(refuse(&bytes[..length]), SnapshotError::Truncated { found, .. } if found == length),
            "{length}"
        );
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(refuse(&longer), SnapshotError::Truncated { .. }));
    for place in [40, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
        let mut bad = bytes.clone();
        bad[place] ^= 1;
        assert!(matches!(refuse(&bad), SnapshotError::Corrupted { .. }), "{place}");
    }
    let mut older = bytes.clone();
    older[8] = 0;
    assert_eq!(refuse(&older), SnapshotError::Version { expected: 1, found: 0 });
    let mut foreign = lived(&MemoryConfig { capacity: 32, ..config.clone() });
    let foreign = foreign.engine.save(foreign.id()).unwrap();
    assert!(matches!(refuse(&foreign), SnapshotError::Configuration { .. }));
    assert_eq!(agent.engine.coefficients(id).unwrap(), before);
    // How queries are answered does not change what is remembered.
    let mut sharper = config.clone();
    sharper.recall.sharpness = 20.0;
    let mut sharper = Agent::new(&sharper);
    sharper.engine.load(sharper.id(), &bytes, LoadedClock::Kept).unwrap();
}
