//! The operations of a layer besides matrix products.
//!
//! On a CPU, candle computes these operations element by element, on one core, and allocates new memory for each; a
//! layer then takes twice as long. The operations here work in place, are fused, use all cores and are written for
//! auto-vectorisation. On a GPU, candle's own operations are used. Both agree to within rounding (see the tests).

use candle_core::{
    CpuStorage, D, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result, Tensor, bail,
};
use candle_nn::ops::{layer_norm, softmax_last_dim};
use rayon::prelude::*;

/// The number of rows that a thread processes at once.
const ROWS_PER_TASK: usize = 16;

/// Returns `x + bias`, row by row.
pub(super) fn add_bias(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.broadcast_add(bias);
    }
    x.inplace_op2(bias, &Bias { gelu: false })?;
    Ok(x)
}

/// Returns the exact GELU of `x + bias`. GELU is `v · Φ(v)`.
pub(super) fn add_bias_gelu(x: Tensor, bias: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return x.broadcast_add(bias)?.gelu_erf();
    }
    x.inplace_op2(bias, &Bias { gelu: true })?;
    Ok(x)
}

/// Returns the softmax of each row.
pub(super) fn softmax(x: Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return softmax_last_dim(&x);
    }
    x.inplace_op1(&Softmax)?;
    Ok(x)
}

/// A bias and a layer norm of rows, `weight · (v - mean) / deviation + shift`.
#[derive(Debug)]
pub(super) struct BiasedLayerNorm {
    /// `bias`, `weight` and `shift` as the three rows of a tensor.
    parameters: Tensor,
    epsilon: f64,
}

impl BiasedLayerNorm {
    pub fn new(bias: &Tensor, weight: &Tensor, shift: &Tensor, epsilon: f64) -> Result<Self> {
        Ok(Self {
            parameters: Tensor::stack(&[bias, weight, shift], 0)?,
            epsilon,
        })
    }

    /// Returns the norm of `x + bias + residual`.
    pub fn forward(&self, x: Tensor, residual: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            let (bias, weight, shift) = (
                self.parameters.get(0)?,
                self.parameters.get(1)?,
                self.parameters.get(2)?,
            );
            let sum = (x.broadcast_add(&bias)? + residual)?;
            return layer_norm(&sum, &weight, &shift, self.epsilon as f32);
        }
        let epsilon = self.epsilon as f32;
        x.inplace_op3(residual, &self.parameters, &SumNorm { epsilon })?;
        Ok(x)
    }
}

/// Returns the numbers of a contiguous `f32` tensor on the CPU.
fn numbers<'s>(storage: &'s CpuStorage, layout: &Layout) -> Result<&'s [f32]> {
    let CpuStorage::F32(all) = storage else {
        bail!("the tensor is not f32")
    };
    match layout
        .contiguous_offsets()
        .and_then(|(begin, end)| all.get(begin..end))
    {
        Some(numbers) => Ok(numbers),
        None => bail!("the tensor is not contiguous"),
    }
}

fn numbers_mut<'s>(storage: &'s mut CpuStorage, layout: &Layout) -> Result<&'s mut [f32]> {
    let CpuStorage::F32(all) = storage else {
        bail!("the tensor is not f32")
    };
    match layout
        .contiguous_offsets()
        .and_then(|(begin, end)| all.get_mut(begin..end))
    {
        Some(numbers) => Ok(numbers),
        None => bail!("the tensor is not contiguous"),
    }
}

/// Returns the length of the rows, which is never zero.
fn width(layout: &Layout) -> Result<usize> {
    match layout.shape().dim(D::Minus1)? {
        0 => bail!("the rows are empty"),
        width => Ok(width),
    }
}

struct Bias {
    gelu: bool,
}

impl InplaceOp2 for Bias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        layout: &Layout,
    ) -> Result<()> {
        let width = width(x_layout)?;
        let (x, bias) = (numbers_mut(x, x_layout)?, numbers(bias, layout)?);
        if bias.len() != width {
            bail!(
                "cannot add a bias of {} numbers to rows of {width}",
                bias.len()
            );
        }
        x.par_chunks_mut(width * ROWS_PER_TASK).for_each(|rows| {
            for row in rows.chunks_exact_mut(width) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x += bias;
                }
                if self.gelu {
                    for x in row {
                        *x = gelu(*x);
                    }
                }
            }
        });
        Ok(())
    }
}

struct Softmax;

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let width = width(layout)?;
        // Sequential: the rows are those of one text, and texts already run in parallel on all cores.
        for row in numbers_mut(x, layout)?.chunks_exact_mut(width) {
            let greater = |one: f32, other: f32| if one > other { one } else { other };
            let largest = reduce_lanes(row, f32::NEG_INFINITY, greater)
                .into_iter()
                .fold(f32::NEG_INFINITY, greater);
            for x in &mut *row {
                *x = exp(*x - largest);
            }
            let whole = reduce_lanes(row, 0.0, |sum, x| sum + x)
                .iter()
                .sum::<f32>()
                .recip();
            for x in row {
                *x *= whole;
            }
        }
        Ok(())
    }
}

struct SumNorm {
    epsilon: f32,
}

impl InplaceOp3 for SumNorm {
    fn name(&self) -> &'static str {
        "norm of a sum"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
        all: &CpuStorage,
        all_layout: &Layout,
    ) -> Result<()> {
        let width = width(x_layout)?;
        let x = numbers_mut(x, x_layout)?;
        let residual = numbers(residual, residual_layout)?;
        let all = numbers(all, all_layout)?;
        let (Some(bias), Some(weight), Some(shift)) = (
            all.get(..width),
            all.get(width..2 * width),
            all.get(2 * width..3 * width),
        ) else {
            bail!(
                "cannot normalise rows of {width} with {} numbers",
                all.len()
            );
        };
        if residual.len() != x.len() {
            bail!("cannot add {} numbers to {}", residual.len(), x.len());
        }
        let portions = x
            .par_chunks_mut(width * ROWS_PER_TASK)
            .zip(residual.par_chunks(width * ROWS_PER_TASK));
        portions.for_each(|(x, residual)| {
            for (row, residual) in x.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
                for ((x, residual), bias) in row.iter_mut().zip(residual).zip(bias) {
                    *x += residual + bias;
                }
                let mean =
                    reduce_lanes(row, 0.0, |sum, x| sum + x).iter().sum::<f32>() / width as f32;
                let squares = reduce_lanes(row, 0.0, |sum, x| sum + (x - mean) * (x - mean));
                let variance = squares.iter().sum::<f32>() / width as f32;
                let scale = (variance + self.epsilon).sqrt().recip();
                for ((x, weight), shift) in row.iter_mut().zip(weight).zip(shift) {
                    *x = (*x - mean) * scale * weight + shift;
                }
            }
        });
        Ok(())
    }
}

/// Reduces a row into 16 partial results. A sequential reduction cannot be vectorised by the compiler.
#[inline(always)]
fn reduce_lanes(row: &[f32], start: f32, with: impl Fn(f32, f32) -> f32) -> [f32; 16] {
    let mut lanes = [start; 16];
    let (portions, rest) = row.as_chunks::<16>();
    for portion in portions {
        for (lane, x) in lanes.iter_mut().zip(portion) {
            *lane = with(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = with(*lane, *x);
    }
    lanes
}

/// Computes `e^x` for `x` of at most 0, with a relative error below 2e-7. Below -87 the result is that of -87
/// (1.6e-38), which is close to the smallest normal `f32`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // 1.5 · 2^23. Adding it rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: integer multiples of the first are exact.
    const LN_2: (f32, f32) = (0.693_359_4, -2.121_944_4e-4);
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let x = x - whole * LN_2.0 - whole * LN_2.1;
    let mut power = 1.987_569_1e-4;
    for coefficient in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        power = power * x + coefficient;
    }
    let part = power * x * x + x + 1.0;
    part * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

/// Computes `x · Φ(x)`, with an error below 1e-6, by the complementary error function (Abramowitz and Stegun,
/// 7.1.26). For negative `x` it loses less precision than `1 + erf`.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let size = x.abs();
    let t = (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * size).recip();
    let mut tail = 1.061_405_4_f32;
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        tail = tail * t + coefficient;
    }
    let beyond = 0.5 * size * (tail * t * exp(-0.5 * x * x));
    x.max(0.0) - beyond
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn random(seed: u64, shape: &[usize]) -> Tensor {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = shape.iter().product();
        let numbers: Vec<f32> = (0..count).map(|_| random.f32() * 8.0 - 4.0).collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    fn apart(one: &Tensor, other: &Tensor) -> f64 {
        let apart =
            (one.to_dtype(DType::F64).unwrap() - other.to_dtype(DType::F64).unwrap()).unwrap();
        apart
            .abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    }

    #[test]
    fn exp_and_gelu_stay_within_error_bounds() {
        let exact = |x: f32| f64::from(x).exp();
        for step in 0..870_000 {
            let x = step as f32 * -1e-4;
            let error = (f64::from(exp(x)) - exact(x)).abs() / exact(x);
            assert!(error < 2e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(-1e30) < 1e-37 && exp(f32::NEG_INFINITY) < 1e-37);
        let all: Vec<f32> = (-200_000..=200_000)
            .map(|step| step as f32 * 1e-4)
            .collect();
        let ours: Vec<f32> = all.iter().map(|x| gelu(*x)).collect();
        let exact = Tensor::new(all, &Device::Cpu)
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
            .gelu_erf()
            .unwrap();
        let error = apart(&Tensor::new(ours, &Device::Cpu).unwrap(), &exact);
        assert!(error < 1e-6, "gelu is off by {error}");
        assert_eq!((gelu(0.0), gelu(1e30)), (0.0, 1e30));
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn operations_match_candle() {
        let (x, bias) = (random(1, &[37, 48]), random(2, &[48]));
        let sum = x.broadcast_add(&bias).unwrap();
        assert_eq!(
            apart(&add_bias(x.copy().unwrap(), &bias).unwrap(), &sum),
            0.0
        );
        let gelu = add_bias_gelu(x.copy().unwrap(), &bias).unwrap();
        assert!(apart(&gelu, &sum.gelu_erf().unwrap()) < 2e-6);
        let softmax = softmax(x.copy().unwrap()).unwrap();
        assert!(apart(&softmax, &softmax_last_dim(&x).unwrap()) < 1e-6);
        let (weight, shift, residual) = (random(3, &[48]), random(4, &[48]), random(5, &[37, 48]));
        let norm = BiasedLayerNorm::new(&bias, &weight, &shift, 1e-12).unwrap();
        let ours = norm.forward(x.copy().unwrap(), &residual).unwrap();
        let theirs = layer_norm(&(sum + residual).unwrap(), &weight, &shift, 1e-12).unwrap();
        assert!(apart(&ours, &theirs) < 2e-5, "{}", apart(&ours, &theirs));
    }

    #[test]
    fn operations_reject_mismatched_shapes() {
        let x = random(1, &[4, 8]);
        add_bias(x.copy().unwrap(), &random(2, &[7])).unwrap_err();
        add_bias(x.t().unwrap(), &random(2, &[4])).unwrap_err();
        let row = random(2, &[8]);
        let norm = BiasedLayerNorm::new(&row, &row, &row, 1e-12).unwrap();
        norm.forward(x, &random(3, &[3, 8])).unwrap_err();
    }
}
