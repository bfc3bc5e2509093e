//! Which kernels compute.

/// Who computes convolutions and dense layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Direct kernels: the same bits from every instruction set
    #[default]
    Direct,
    /// im2col and the crate matrixmultiply, which orders its sums as it likes
    Gemm,
}
