//! Takes the place of candle-core's `dummy_cuda_backend.rs`: a CUDA device whose memory is the host's and whose operations
//! are the processor's, but which refuses what the CUDA backend refuses (`candle-core/src/cuda_backend/mod.rs`): products of
//! matrices with strides that cuBLAS does not take, indices and sources that are not contiguous, some types, launches for no
//! elements. Stricter than it, it refuses allocations of nothing (what a driver makes of them is its own affair) and types
//! that nothing here computes with.
#![allow(missing_docs)]

use crate::backend::{BackendDevice, BackendStorage};
use crate::conv::{ParamsConv1D, ParamsConv2D, ParamsConvTranspose1D, ParamsConvTranspose2D};
use crate::cpu_backend::CpuDevice;
use crate::op::{BinaryOpT, CmpOp, ReduceOp, UnaryOpT};
use crate::scalar::Scalar;
use crate::{CpuStorage, DType, DeviceLocation, Error, Layout, Result, Shape, WithDType};

#[derive(Debug, Clone)]
pub struct CudaDevice;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceId(usize);

impl CudaDevice {
    pub fn new_with_stream(_: usize) -> Result<Self> {
        Ok(CudaDevice)
    }

    pub fn id(&self) -> DeviceId {
        DeviceId(0)
    }
}

#[derive(Debug)]
pub struct CudaStorage {
    host: CpuStorage,
    device: CudaDevice,
}

impl CudaStorage {
    fn new(host: CpuStorage) -> Result<Self> {
        let is_empty = match &host {
            CpuStorage::U8(values) => values.is_empty(),
            CpuStorage::U32(values) => values.is_empty(),
            CpuStorage::I64(values) => values.is_empty(),
            CpuStorage::F32(values) => values.is_empty(),
            CpuStorage::F64(values) => values.is_empty(),
            _ => crate::bail!("{:?} is not in the stand-in of a device", host.dtype()),
        };
        if is_empty {
            crate::bail!("an allocation of nothing on a device");
        }
        Ok(Self { host, device: CudaDevice })
    }

    pub fn transfer_to_device(&self, _: &CudaDevice) -> Result<Self> {
        Self::new(self.host.clone())
    }

    /// What an operation of candle-nn has a kernel for, which is compiled for CUDA alone.
    pub fn by_processor(
        &self,
        operation: impl Fn(&CpuStorage) -> Result<(CpuStorage, Shape)>,
    ) -> Result<(Self, Shape)> {
        let (host, shape) = operation(&self.host)?;
        Ok((Self::new(host)?, shape))
    }
}

/// A kernel's grid has a block or more.
fn some(elements: usize, operation: &str) -> Result<()> {
    if elements == 0 {
        crate::bail!("{operation} of no elements on a device");
    }
    Ok(())
}

fn contiguous<const N: usize>(layouts: [&Layout; N], op: &'static str) -> Result<()> {
    match layouts.iter().all(|layout| layout.contiguous_offsets().is_some()) {
        true => Ok(()),
        false => Err(Error::RequiresContiguous { op }.bt()),
    }
}

fn indices(storage: &CudaStorage) -> Result<()> {
    match storage.dtype() {
        DType::U8 | DType::U32 | DType::I64 => Ok(()),
        other => crate::bail!("indices or conditions of {other:?} on a device"),
    }
}

/// What an operation on places asks of the places, of what must be contiguous, and of how many there are.
fn by_places<const N: usize>(
    ids: &CudaStorage,
    layouts: [&Layout; N],
    elements: usize,
    op: &'static str,
) -> Result<()> {
    indices(ids)?;
    contiguous(layouts, op)?;
    some(elements, op)
}

/// What cuBLAS takes: rows one after the other or columns one after the other, and equal distances within a batch.
fn strides(layout: &Layout, rows: usize, columns: usize) -> Result<()> {
    let (outer, inner) = layout.stride().split_at(layout.stride().len() - 2);
    let by_rows = (inner[1] == 1 || columns == 1) && (inner[0] == columns || rows == 1);
    let by_columns = (inner[1] == rows || columns == 1) && (inner[0] == 1 || rows == 1);
    let even = match *outer {
        [] | [_] => true,
        [first, second] => first == second * layout.dims()[1] || layout.dims()[0] == 1 || layout.dims()[1] == 1,
        _ => false,
    };
    if !((by_rows || by_columns) && even) {
        crate::bail!("a product of a matrix with strides on a device: {layout:?}");
    }
    Ok(())
}

macro_rules! not_here {
    ($($name:ident($($type:ty),*);)*) => {$(
        fn $name(&self, $(_: $type),*) -> Result<Self> {
            crate::bail!(concat!(stringify!($name), " is not in the stand-in of a device"))
        }
    )*};
}

impl BackendStorage for CudaStorage {
    type Device = CudaDevice;

    fn try_clone(&self, layout: &Layout) -> Result<Self> {
        Self::new(self.host.try_clone(layout)?)
    }

    fn dtype(&self) -> DType {
        self.host.dtype()
    }

    fn device(&self) -> &CudaDevice {
        &self.device
    }

    fn const_set(&mut self, value: Scalar, layout: &Layout) -> Result<()> {
        some(layout.shape().elem_count(), "const_set")?;
        self.host.const_set(value, layout)
    }

    fn to_cpu_storage(&self) -> Result<CpuStorage> {
        Ok(self.host.clone())
    }

    fn affine(&self, layout: &Layout, times: f64, plus: f64) -> Result<Self> {
        some(layout.shape().elem_count(), "affine")?;
        Self::new(self.host.affine(layout, times, plus)?)
    }

    fn powf(&self, layout: &Layout, power: f64) -> Result<Self> {
        some(layout.shape().elem_count(), "powf")?;
        Self::new(self.host.powf(layout, power)?)
    }

    fn elu(&self, layout: &Layout, alpha: f64) -> Result<Self> {
        some(layout.shape().elem_count(), "elu")?;
        Self::new(self.host.elu(layout, alpha)?)
    }

    fn reduce_op(&self, op: ReduceOp, layout: &Layout, dims: &[usize]) -> Result<Self> {
        some(layout.shape().elem_count(), "reduce")?;
        Self::new(self.host.reduce_op(op, layout, dims)?)
    }

    fn cmp(&self, op: CmpOp, right: &Self, layout: &Layout, right_layout: &Layout) -> Result<Self> {
        some(layout.shape().elem_count(), "cmp")?;
        Self::new(self.host.cmp(op, &right.host, layout, right_layout)?)
    }

    fn to_dtype(&self, layout: &Layout, dtype: DType) -> Result<Self> {
        some(layout.shape().elem_count(), "to_dtype")?;
        if matches!(dtype, DType::I16 | DType::I32) {
            crate::bail!("a conversion to {dtype:?} on a device");
        }
        Self::new(self.host.to_dtype(layout, dtype)?)
    }

    fn unary_impl<B: UnaryOpT>(&self, layout: &Layout) -> Result<Self> {
        some(layout.shape().elem_count(), B::NAME)?;
        Self::new(self.host.unary_impl::<B>(layout)?)
    }

    fn binary_impl<B: BinaryOpT>(&self, right: &Self, layout: &Layout, right_layout: &Layout) -> Result<Self> {
        some(layout.shape().elem_count(), B::NAME)?;
        Self::new(self.host.binary_impl::<B>(&right.host, layout, right_layout)?)
    }

    fn where_cond(&self, layout: &Layout, then: &Self, of_then: &Layout, or: &Self, of_or: &Layout) -> Result<Self> {
        indices(self)?;
        some(layout.shape().elem_count(), "where_cond")?;
        Self::new(self.host.where_cond(layout, &then.host, of_then, &or.host, of_or)?)
    }

    fn index_select(&self, ids: &Self, layout: &Layout, of_ids: &Layout, dim: usize) -> Result<Self> {
        by_places(ids, [layout], of_ids.shape().elem_count() * layout.shape().elem_count(), "index-select")?;
        Self::new(self.host.index_select(&ids.host, layout, of_ids, dim)?)
    }

    fn gather(&self, layout: &Layout, ids: &Self, of_ids: &Layout, dim: usize) -> Result<Self> {
        by_places(ids, [layout, of_ids], of_ids.shape().elem_count(), "gather")?;
        Self::new(self.host.gather(layout, &ids.host, of_ids, dim)?)
    }

    fn scatter_set(
        &mut self,
        layout: &Layout,
        ids: &Self,
        of_ids: &Layout,
        source: &Self,
        of_source: &Layout,
        dim: usize,
    ) -> Result<()> {
        by_places(ids, [layout, of_ids, of_source], of_ids.shape().elem_count(), "scatter")?;
        self.host.scatter_set(layout, &ids.host, of_ids, &source.host, of_source, dim)
    }

    fn scatter_add_set(
        &mut self,
        layout: &Layout,
        ids: &Self,
        of_ids: &Layout,
        source: &Self,
        of_source: &Layout,
        dim: usize,
    ) -> Result<()> {
        by_places(ids, [layout, of_ids, of_source], of_ids.shape().elem_count(), "scatter-add")?;
        self.host.scatter_add_set(layout, &ids.host, of_ids, &source.host, of_source, dim)
    }

    fn index_add(
        &self,
        layout: &Layout,
        ids: &Self,
        of_ids: &Layout,
        source: &Self,
        of_source: &Layout,
        dim: usize,
    ) -> Result<Self> {
        by_places(ids, [of_ids, of_source], of_source.shape().elem_count(), "index-add")?;
        Self::new(self.host.index_add(layout, &ids.host, of_ids, &source.host, of_source, dim)?)
    }

    fn matmul(
        &self,
        right: &Self,
        (batch, rows, columns, inner): (usize, usize, usize, usize),
        layout: &Layout,
        of_right: &Layout,
    ) -> Result<Self> {
        strides(layout, rows, inner)?;
        strides(of_right, inner, columns)?;
        some(batch * rows * columns * inner, "matmul")?;
        Self::new(self.host.matmul(&right.host, (batch, rows, columns, inner), layout, of_right)?)
    }

    fn copy_strided_src(&self, to: &mut Self, offset: usize, layout: &Layout) -> Result<()> {
        self.host.copy_strided_src(&mut to.host, offset, layout)
    }

    #[allow(clippy::too_many_arguments)]
    fn copy2d(
        &self,
        to: &mut Self,
        rows: usize,
        columns: usize,
        stride: usize,
        to_stride: usize,
        offset: usize,
        to_offset: usize,
    ) -> Result<()> {
        self.host.copy2d(&mut to.host, rows, columns, stride, to_stride, offset, to_offset)
    }

    not_here! {
        conv1d(&Layout, &Self, &Layout, &ParamsConv1D);
        conv_transpose1d(&Layout, &Self, &Layout, &ParamsConvTranspose1D);
        conv2d(&Layout, &Self, &Layout, &ParamsConv2D);
        conv_transpose2d(&Layout, &Self, &Layout, &ParamsConvTranspose2D);
        avg_pool2d(&Layout, (usize, usize), (usize, usize));
        max_pool2d(&Layout, (usize, usize), (usize, usize));
        upsample_nearest1d(&Layout, usize);
        upsample_nearest2d(&Layout, usize, usize);
        upsample_bilinear2d(&Layout, usize, usize, bool, Option<f64>, Option<f64>);
    }
}

impl BackendDevice for CudaDevice {
    type Storage = CudaStorage;

    fn new(_: usize) -> Result<Self> {
        Ok(CudaDevice)
    }

    fn set_seed(&self, seed: u64) -> Result<()> {
        CpuDevice.set_seed(seed)
    }

    fn get_current_seed(&self) -> Result<u64> {
        CpuDevice.get_current_seed()
    }

    fn location(&self) -> DeviceLocation {
        DeviceLocation::Cuda { gpu_id: 0 }
    }

    fn same_device(&self, _: &Self) -> bool {
        true
    }

    fn zeros_impl(&self, shape: &Shape, dtype: DType) -> Result<CudaStorage> {
        CudaStorage::new(CpuDevice.zeros_impl(shape, dtype)?)
    }

    // candle's trait has it unsafe; here it is the processor's, whose caller promises the same.
    unsafe fn alloc_uninit(&self, shape: &Shape, dtype: DType) -> Result<CudaStorage> {
        CudaStorage::new(CpuDevice.alloc_uninit(shape, dtype)?)
    }

    fn storage_from_slice<T: WithDType>(&self, values: &[T]) -> Result<CudaStorage> {
        CudaStorage::new(CpuDevice.storage_from_slice(values)?)
    }

    fn storage_from_cpu_storage(&self, host: &CpuStorage) -> Result<CudaStorage> {
        CudaStorage::new(host.clone())
    }

    fn storage_from_cpu_storage_owned(&self, host: CpuStorage) -> Result<CudaStorage> {
        CudaStorage::new(host)
    }

    fn rand_uniform(&self, shape: &Shape, dtype: DType, low: f64, high: f64) -> Result<CudaStorage> {
        CudaStorage::new(CpuDevice.rand_uniform(shape, dtype, low, high)?)
    }

    fn rand_normal(&self, shape: &Shape, dtype: DType, mean: f64, deviation: f64) -> Result<CudaStorage> {
        CudaStorage::new(CpuDevice.rand_normal(shape, dtype, mean, deviation)?)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }
}

pub fn gemm_reduced_precision_f16() -> bool {
    false
}

pub fn set_gemm_reduced_precision_f16(_: bool) {}

pub fn gemm_reduced_precision_bf16() -> bool {
    false
}

pub fn set_gemm_reduced_precision_bf16(_: bool) {}

pub fn gemm_reduced_precision_f32() -> bool {
    false
}

pub fn set_gemm_reduced_precision_f32(_: bool) {}
