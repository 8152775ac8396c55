//! One error type for the whole crate: each variant says what was expected, what was found and what to do.

/// What can go wrong between an observation and an answer.
///
/// No error changes a memory: the agent keeps the state that it had before the call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration is out of its range.
    #[error("configuration field `{field}` is {value}; allowed: {allowed}")]
    Configuration {
        /// Path of the field, as it stands in the RON file.
        field: String,
        /// The value found there.
        value: String,
        /// What the field may be.
        allowed: String,
    },
    /// RON text that is no [`MemoryConfig`](crate::MemoryConfig).
    #[error("the configuration cannot be read: {0}")]
    Parse(String),
    /// A vector does not have one value a channel.
    #[error("{what} has {found} values; the memory has {expected} channels: pass one value for each")]
    Width {
        /// Which vector.
        what: &'static str,
        /// The number of channels.
        expected: usize,
        /// The number of values passed.
        found: usize,
    },
    /// NaN, an infinity or a number beyond 1e15.
    #[error("channel `{channel}` of {what} is {value}; only finite numbers up to 1e15 can be remembered")]
    NotFinite {
        /// Which vector.
        what: &'static str,
        /// The channel's full name, `group.channel`.
        channel: String,
        /// The value found, as text.
        value: String,
    },
    /// An observation older than the newest one.
    #[error("an observation of tick {found} came after tick {newest}; push observations in the order of their ticks")]
    TickOrder {
        /// The newest tick in memory.
        newest: u64,
        /// The tick of the refused observation.
        found: u64,
    },
    /// A name that no channel or group has.
    #[error("there is no channel or group `{name}`; there are: {known}")]
    UnknownChannel {
        /// The name asked for.
        name: String,
        /// All names, separated by commas.
        known: String,
    },
    /// A query that constrains nothing.
    #[error("the query constrains no channel; set at least one with `Query::where_channel` or `Query::where_group`")]
    EmptyQuery,
    /// A query to an agent whose memory is a model's.
    #[error("an agent with a model answers no queries: read its heads and its readout")]
    QueryOfModel,
    /// An agent that was never spawned, or is gone.
    #[error("agent {agent} is not in this memory; it was removed or belongs to another runtime")]
    UnknownAgent {
        /// The agent, as text.
        agent: String,
    },
    /// An agent that appears twice in one step.
    #[error("agent {agent} is in this step twice; put all its observations and queries into one `AgentStep`")]
    Repeated {
        /// The agent, as text.
        agent: String,
    },
    /// A policy that the device cannot run.
    #[error("{policy} does not run on {device}; use the CPU device, or another policy or precision")]
    Device {
        /// The forgetting policy.
        policy: &'static str,
        /// The device.
        device: String,
    },
    /// The kernel could not be made or run on the device.
    #[error(
        "the device did not run the memory's kernel: {message}; where it lacks room, a smaller capacity, chunk or \
         short-term memory and fewer groups or peaks need less; the CPU device runs every memory"
    )]
    Kernel {
        /// What the device said.
        message: String,
    },
    /// A model stays where its weights were loaded.
    #[error(
        "the agents remember with a model, which stays on the device that its weights were loaded on; load it on the other"
    )]
    ModelDevice,
    /// The agents of a crowd do not come by ascending slot.
    #[error(
        "agent {agent} of the crowd comes after one of the same or a later slot; list each once, as `Engine::living` does"
    )]
    CrowdOrder {
        /// The agent that is out of order.
        agent: String,
    },
    /// A queue of other channels, scales or tokens than the memory has.
    #[error(
        "the observation queue holds other channels ({found}), or other units, scales or tokens of them, than the \
         memory ({expected}): take it from the runtime or from the memory's layout"
    )]
    Layout {
        /// The memory's channels.
        expected: String,
        /// The queue's.
        found: String,
    },
    /// A tensor of another size than the model or its state needs.
    #[error("{what}: {expected} expected, {found} found")]
    Shape {
        /// What is counted.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A token that its input does not know.
    #[error("token {found} of input `{input}`: whole numbers from 0 to {vocabulary} - 1 are allowed")]
    Token {
        /// The input's name.
        input: String,
        /// How many tokens it knows.
        vocabulary: usize,
        /// The value found, as text.
        found: String,
    },
    /// Observations, resets or wanted ticks that do not fit the model or the state.
    #[error("the segment is refused: {0}")]
    Segment(String),
    /// A model state that does not fit.
    #[error("the model state is refused: {0}")]
    State(String),
    /// Weights that do not fit the model.
    #[error("the weights are refused: {0}")]
    Weights(WeightsError),
    /// The tensor library failed.
    #[error("tensor operation failed: {0}")]
    Tensor(String),
    /// Bytes that are no snapshot of this memory.
    #[error("the snapshot is refused: {0}")]
    Snapshot(SnapshotError),
    /// The worker that held this agent failed; its memory is as it was before the failing step.
    #[error("the memory worker failed: {message}; its agents keep their last good state until `Runtime::restart`")]
    Worker {
        /// What the worker said.
        message: String,
    },
    /// An agent's state did not survive a failure of its worker and was emptied.
    #[error("agent {agent} was being written when the worker failed; its memory was found damaged and has been reset")]
    Damaged {
        /// The agent, as text.
        agent: String,
    },
}

/// Why a snapshot is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes do not begin as a snapshot does.
    #[error("these bytes are no infformer snapshot (they do not begin with `INFFMEM`)")]
    Foreign,
    /// Written by another version of the format.
    #[error("format version {found}; this build reads version {expected}: load it with the version that wrote it")]
    Version {
        /// The version that this build reads.
        expected: u32,
        /// The version found.
        found: u32,
    },
    /// Fewer bytes than the header announces.
    #[error("truncated: {expected} bytes announced, {found} found")]
    Truncated {
        /// Bytes announced.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The checksum does not match.
    #[error("corrupted: checksum {found:016x} instead of {expected:016x}")]
    Corrupted {
        /// The checksum stored.
        expected: u64,
        /// The checksum of the bytes found.
        found: u64,
    },
    /// The header is not readable, or disagrees with the body.
    #[error("the header is unreadable: {0}")]
    Header(String),
    /// Taken from a memory of another configuration.
    #[error(
        "configuration fingerprint {found:016x} instead of {expected:016x}: load it with the configuration that wrote it"
    )]
    Configuration {
        /// The fingerprint of this memory's configuration.
        expected: u64,
        /// The fingerprint in the snapshot.
        found: u64,
    },
}

/// Why a file of weights is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// A file cannot be read or written.
    #[error("{path}: {message}")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        message: String,
    },
    /// What is wrong with the weights of one file.
    #[error("{path}: {error}")]
    In {
        /// Which file.
        path: String,
        /// What is wrong.
        error: Box<WeightsError>,
    },
    /// Bytes that are no safetensors file, or end too early.
    #[error("no whole safetensors file: {0}; copy or download it again")]
    Unreadable(String),
    /// Made for another configuration.
    #[error("they are of configuration {found}, the model is {expected}: keep the `.model.ron` saved beside them")]
    Configuration {
        /// The fingerprint of the model's configuration.
        expected: String,
        /// The fingerprint in the file.
        found: String,
    },
    /// A tensor that is not there.
    #[error("tensor `{name}` {shape:?} is missing")]
    Missing {
        /// Its name.
        name: String,
        /// The shape that it should have.
        shape: Vec<usize>,
    },
    /// A tensor of another shape.
    #[error("tensor `{name}` is {found:?} instead of {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// The model's.
        expected: Vec<usize>,
        /// The file's.
        found: Vec<usize>,
    },
    /// A tensor of another kind of numbers.
    #[error("tensor `{name}` is {found} instead of F32")]
    Kind {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
    },
    /// NaN or an infinity among the weights.
    #[error("tensor `{name}` holds values that are not finite: the training that made it diverged")]
    NotFinite {
        /// Its name.
        name: String,
    },
    /// A tensor that the model does not have.
    #[error("tensor `{name}` is not a part of this model")]
    Unknown {
        /// Its name.
        name: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // What follows the first line is a backtrace.
        Error::Tensor(error.to_string().lines().next().unwrap_or_default().into())
    }
}

impl From<WeightsError> for Error {
    fn from(error: WeightsError) -> Self {
        Error::Weights(error)
    }
}

impl From<SnapshotError> for Error {
    fn from(error: SnapshotError) -> Self {
        Error::Snapshot(error)
    }
}
