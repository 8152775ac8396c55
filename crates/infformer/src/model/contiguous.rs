//! The numbers of a tensor on the host, for operations of our own.

use candle_core::{CpuStorage, Layout, Result, WithDType};

/// The values of a contiguous tensor of type `T`. Errors: another type, a tensor with strides.
pub(crate) fn contiguous<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => candle_core::bail!("a contiguous tensor expected, {layout:?} found"),
    }
}
