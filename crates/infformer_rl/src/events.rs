//! TensorBoard event files, scalars alone.
//!
//! The crates that write them need a protobuf compiler to build, or decoders of every picture format; the four
//! messages below are all that a curve needs. A record is its length (u64), a masked CRC-32C of the length, the
//! message, and a masked CRC-32C of the message.

use crate::error::{Error, Result};
use prost::Message;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session: Option<Session>,
}

/// A run begins: of the same folder, what other files have of this step and later ones is void.
#[derive(Clone, PartialEq, Message)]
struct Session {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The `status` of a session that begins.
const BEGINS: i32 = 1;

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    /// One of several kinds of value: written even where it is 0.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// An event file that is being written.
#[derive(Debug)]
pub(crate) struct Events(File);

impl Events {
    /// A new event file in `folder` of a run that goes on after `step`.
    pub(crate) fn create(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join(format!("events.out.tfevents.{}", now().as_micros()));
        let mut events = Self(File::create(&path).map_err(Error::file(&path))?);
        let first = Event { file_version: Some("brain.Event:2".into()), ..events.event(0) };
        let begins = Event { session: Some(Session { status: BEGINS }), ..events.event(step + 1) };
        [first, begins].iter().try_for_each(|event| events.write(event)).map_err(Error::file(&path))?;
        Ok(events)
    }

    /// Writes values of one step.
    pub(crate) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> std::io::Result<()> {
        let value = |(tag, value): &(&str, f64)| Scalar { tag: (*tag).into(), simple_value: Some(*value as f32) };
        let summary = Some(Summary { value: scalars.iter().map(value).collect() });
        self.write(&Event { summary, ..self.event(step) })
    }

    fn event(&self, step: u64) -> Event {
        Event { wall_time: now().as_secs_f64(), step: step as i64, file_version: None, summary: None, session: None }
    }

    fn write(&mut self, event: &Event) -> std::io::Result<()> {
        let message = event.encode_to_vec();
        let length = (message.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(&message);
        record.extend(masked(&message).to_le_bytes());
        self.0.write_all(&record)
    }
}

fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The first twelve bytes of every event file of TensorFlow: the length of its first record, and that length's checksum.
    #[test]
    fn the_checksum_is_that_of_tensorflow() {
        assert_eq!(masked(&24_u64.to_le_bytes()).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
    }

    /// What was written is read back, record by record, by the format's rules.
    #[test]
    fn records_can_be_read() {
        let folder = std::env::temp_dir().join(format!("infformer-events-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut events = Events::create(&folder, 5).unwrap();
        events.scalars(7, &[("loss", 0.5), ("accuracy", 0.0)]).unwrap();
        let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut read) = (bytes.as_slice(), vec![]);
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let (checksum, after) = after.split_at(4);
            assert_eq!(checksum, masked(length).to_le_bytes());
            let (message, after) = after.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
            let (checksum, after) = after.split_at(4);
            assert_eq!(checksum, masked(message).to_le_bytes());
            read.push(Event::decode(message).unwrap());
            rest = after;
        }
        assert_eq!(read[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!((read[1].step, read[1].session.clone()), (6, Some(Session { status: 1 })));
        let values: Vec<(String, Option<f32>)> = read[2]
            .summary
            .clone()
            .unwrap()
            .value
            .into_iter()
            .map(|scalar| (scalar.tag, scalar.simple_value))
            .collect();
        assert_eq!((read.len(), read[2].step), (3, 7));
        assert_eq!(values, [("loss".into(), Some(0.5)), ("accuracy".into(), Some(0.0))]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
