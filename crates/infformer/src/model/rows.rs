//! Rows of tensors by their places.

use candle_core::{Result, Tensor};

/// Rows of x \[n, ..\] by their `places` \[m\] → \[m, ..\].
pub(super) fn picked(x: &Tensor, places: &[usize]) -> Result<Tensor> {
    if places.iter().copied().eq(0..x.dim(0)?) {
        return Ok(x.clone());
    }
    let index: Vec<u32> = places.iter().map(|place| *place as u32).collect();
    x.contiguous()?.index_select(&Tensor::from_vec(index, places.len(), x.device())?, 0)
}

/// `count` rows of x \[batch, n, ..\] from each member's `starts` on; beyond the last row, that row again.
pub(super) fn from_starts(x: &Tensor, starts: &[usize], count: usize) -> Result<Tensor> {
    let available = x.dim(1)?;
    let alike = starts.iter().all(|start| *start == starts[0]);
    if alike && starts[0] + count <= available {
        return x.narrow(1, starts[0], count);
    }
    let of_member = |(member, start): (usize, &usize)| {
        (*start..start + count).map(move |row| member * available + row.min(available - 1))
    };
    let places: Vec<usize> = starts.iter().enumerate().flat_map(of_member).collect();
    picked(&x.flatten(0, 1)?, &places)?.reshape([&[starts.len(), count], &x.dims()[2..]].concat())
}
