//! One worker as its caller sees it: the channels to it and from it, and what is under way.

use crate::error::{Error, Result};
use crate::runtime::RuntimeMode;
use crate::worker::{Batch, Mind, Reply, Worker};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use std::collections::VecDeque;
use std::thread::JoinHandle;

/// One worker as the caller sees it.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) place: Place,
    pub(crate) outgoing: Batch,
    pub(crate) in_flight: usize,
    /// Observations in each batch under way.
    pub(crate) on_their_way: VecDeque<u64>,
    pub(crate) arrived: VecDeque<Reply>,
    pub(crate) failed: bool,
    /// The last submission before the latest restart: failures up to it are known.
    pub(crate) restarted: u64,
    pub(crate) idle_batches: Vec<Batch>,
}

/// Whether to wait for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    ForReply,
    Never,
}

#[derive(Debug)]
pub(crate) enum Place {
    Here(Box<Worker>),
    Thread {
        sender: Sender<Batch>,
        receiver: Receiver<Reply>,
        handle: JoinHandle<()>,
    },
    /// The thread is gone, or is being joined.
    Dead,
}

impl Place {
    pub(crate) fn new(mind: Mind, mode: RuntimeMode, batches: usize, number: usize) -> Result<Self> {
        let mut worker = Worker::new(mind);
        if mode == RuntimeMode::Inline {
            return Ok(Place::Here(Box::new(worker)));
        }
        let (sender, inbox) = bounded::<Batch>(batches);
        // A worker never waits for its caller: there is room for the reply to every batch under way.
        let (outbox, receiver) = bounded(batches);
        let work = move || {
            for batch in inbox {
                // Who wakes may have been given the core of the thread that submits, which has a frame to finish.
                std::thread::yield_now();
                if outbox.send(worker.process(batch)).is_err() {
                    return;
                }
            }
        };
        let name = format!("infformer {number}");
        let handle = std::thread::Builder::new().name(name).spawn(work);
        let handle =
            handle.map_err(|error| Error::Worker { message: format!("no thread could be started: {error}") })?;
        Ok(Place::Thread { sender, receiver, handle })
    }

    /// Closes the channel and waits until the worker has left.
    pub(crate) fn stop(&mut self) {
        if let Place::Thread { sender, receiver, handle } = std::mem::replace(self, Place::Dead) {
            drop((sender, receiver));
            // Its panic, if any, was reported when the channel closed.
            let _ = handle.join();
        }
    }
}

impl Lane {
    pub(crate) fn new(place: Place) -> Self {
        Self {
            place,
            outgoing: Batch::default(),
            in_flight: 0,
            on_their_way: VecDeque::new(),
            arrived: VecDeque::new(),
            failed: false,
            restarted: 0,
            idle_batches: vec![],
        }
    }

    /// Sends the outgoing batch, if there is anything in it and room for it.
    pub(crate) fn send(&mut self, submission: u64, most: usize) {
        let empty = self.outgoing.control.is_empty() && self.outgoing.steps.is_empty();
        if empty || self.in_flight >= most || matches!(self.place, Place::Dead) {
            return;
        }
        let mut batch = std::mem::replace(&mut self.outgoing, self.idle_batches.pop().unwrap_or_default());
        batch.submission = submission;
        match &mut self.place {
            Place::Here(worker) => self.arrived.push_back(worker.process(batch)),
            Place::Thread { sender, .. } => {
                self.on_their_way.push_back(batch.steps.iter().map(|step| step.observations.len() as u64).sum());
                // With room for every batch under way, a full channel cannot be; a closed one shows in `next`.
                let _ = sender.try_send(batch);
                self.in_flight += 1;
            }
            Place::Dead => {}
        }
    }

    /// The next reply. `Ok(None)`: none is under way, or (without waiting) none has come. Errors: the worker is gone.
    pub(crate) fn next(&mut self, wait: Wait) -> std::result::Result<Option<Reply>, String> {
        if self.in_flight == 0 {
            return Ok(None);
        }
        let reply = match &self.place {
            Place::Thread { receiver, .. } if wait == Wait::ForReply => {
                receiver.recv().map_err(|_| TryRecvError::Disconnected)
            }
            Place::Thread { receiver, .. } => receiver.try_recv(),
            Place::Here(_) => Err(TryRecvError::Empty),
            Place::Dead => Err(TryRecvError::Disconnected),
        };
        match reply {
            Ok(reply) => {
                self.in_flight -= 1;
                self.on_their_way.pop_front();
                Ok(Some(reply))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => {
                self.place.stop();
                Err("its thread ended".into())
            }
        }
    }
}
