//! Flat parameters: all weights of a network in one buffer, all gradients in another.
//!
//! ```text
//! Layout   name, shape, initial values and offset of each parameter     (what the network is)
//! Weights  one flat f32 tensor and a view of it for each parameter      (one set of values: online, target)
//! ```
//!
//! A network holds [`ParameterId`]s and receives the [`Weights`] at each call. The online and the target network are thus
//! one network with two buffers. Gradient clipping, the optimizer step, the snapshot, the update of the target network
//! and the checkpoint are each one pass over one buffer. Values are f32; there are no buffers that are not trained.

use std::ops::Index;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::libtorch::{self, ScalarOps as _, SharedTensors};

/// Parameters begin at multiples of this many numbers (64 bytes), so that vector loads are aligned. The numbers in the
/// gaps are zero and stay zero.
const ALIGNMENT: i64 = 16;

/// How the initial values of a parameter are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All values are equal.
    Constant(f64),
    /// Uniform between −bound and bound.
    Uniform {
        /// The bound, above 0.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// The standard deviation.
        std: f64,
    },
}

/// Identifies one parameter of a [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterId(usize);

impl Init {
    /// Draws from the given generator, because all threads of the process share libtorch's.
    fn draw(self, numbers: &mut [f32], rng: &mut Pcg64Mcg) {
        for number in numbers {
            *number = match self {
                Init::Constant(value) => value as f32,
                Init::Uniform { bound } => (rng.random::<f64>() * 2.0 * bound - bound) as f32,
                Init::Normal { std } => {
                    // Box & Muller 1958.
                    let (u, v) = (1.0 - rng.random::<f64>(), rng.random::<f64>());
                    (std * (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
                }
            };
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    shape: Vec<i64>,
    init: Init,
    offset: i64,
}

impl Entry {
    fn n_numbers(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// The parameters of a network: names, shapes, initial values and offsets in the flat buffer.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    entries: Vec<Entry>,
    end: i64,
}

impl Layout {
    /// A layout without parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter. `name` identifies it in a checkpoint and has PyTorch's dotted form, such as `linear.weight`.
    ///
    /// # Panics
    /// If another parameter has this name, which is a mistake in the network's code.
    pub fn add(&mut self, name: impl Into<String>, shape: &[i64], init: Init) -> ParameterId {
        let name = name.into();
        assert!(self.entries.iter().all(|entry| entry.name != name), "two parameters named {name}");
        let entry = Entry { name, shape: shape.to_vec(), init, offset: self.end };
        self.end += (entry.n_numbers() + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        self.entries.push(entry);
        ParameterId(self.entries.len() - 1)
    }

    /// Number of trained values, without the gaps of the alignment.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.entries.iter().map(|entry| entry.n_numbers() as u64).sum()
    }

    /// Bytes of one flat buffer, with the gaps.
    #[must_use]
    pub fn flat_bytes(&self) -> u64 {
        self.end as u64 * 4
    }

    /// The parameters' names and shapes, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[i64])> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.shape.as_slice()))
    }

    /// The parameters' names, and a view of `flat` for each, in order. `flat` is a flat buffer of this layout.
    ///
    /// # Errors
    /// If `flat` is shorter than the layout.
    pub fn named(&self, flat: &Tensor) -> Result<Vec<(&str, Tensor)>> {
        Ok(self.entries.iter().map(|entry| entry.name.as_str()).zip(self.views(flat)?).collect())
    }

    /// A view of `flat` for each parameter, in order.
    pub(crate) fn views(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        let view = |entry: &Entry| {
            Ok(flat
                .f_narrow(0, entry.offset, entry.n_numbers())?
                .f_view(entry.shape.as_slice())?
                .f_detach()?)
        };
        self.entries.iter().map(view).collect()
    }
}

/// One set of values for the parameters of a [`Layout`].
#[derive(Debug)]
pub struct Weights {
    layout: Arc<Layout>,
    flat: Tensor,
    views: SharedTensors,
}

impl Index<ParameterId> for Weights {
    type Output = Tensor;

    fn index(&self, id: ParameterId) -> &Tensor {
        &self.views[id.0]
    }
}

impl Weights {
    /// Weights with drawn initial values. The same seed gives the same values to the bit.
    ///
    /// # Errors
    /// If the memory is refused.
    pub fn initial(layout: &Layout, seed: u64, device: Device) -> Result<Self> {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut flat = Tensor::f_zeros([layout.end], (Kind::Float, Device::Cpu))?;
        let numbers = libtorch::exclusive_tensor_data(&mut flat, &[layout.end])?;
        let numbers = numbers.expect("a fresh tensor is held once");
        for entry in &layout.entries {
            let start = entry.offset as usize;
            entry.init.draw(&mut numbers[start..start + entry.n_numbers() as usize], &mut rng);
        }
        Self::over(layout, flat.f_to_device(device)?)
    }

    /// Weights that are all zero.
    ///
    /// # Errors
    /// If the memory is refused.
    pub fn zeros(layout: &Layout, device: Device) -> Result<Self> {
        Self::over(layout, Tensor::f_zeros([layout.end], (Kind::Float, device))?)
    }

    fn over(layout: &Layout, flat: Tensor) -> Result<Self> {
        let views = layout.views(&flat)?;
        Ok(Self { layout: Arc::new(layout.clone()), flat, views: views.into() })
    }

    /// Another handle of the same values and gradients, for code that must own its weights, such as a
    /// [`Stage`](crate::nn::activations::Stage). A write through one handle is visible through the other. A later
    /// [`record_gradients`](Self::record_gradients) affects only the handle on which it is called.
    #[must_use]
    pub fn share(&self) -> Self {
        let layout = Arc::clone(&self.layout);
        Self { layout, flat: self.flat.shallow_clone(), views: self.views.clone() }
    }

    /// Starts to record gradients and returns the flat buffer in which backward accumulates them, zero at first.
    ///
    /// # Errors
    /// If the memory is refused.
    pub fn record_gradients(&mut self) -> Result<Tensor> {
        let gradients = self.flat.f_zeros_like()?;
        self.require_gradients()?;
        for (view, gradient) in self.views.iter().zip(self.layout.views(&gradients)?) {
            libtorch::set_gradient(&mut view.shallow_clone(), &gradient)?;
        }
        Ok(gradients)
    }

    /// Replaces the views by new ones that require gradients and have none yet.
    pub(crate) fn require_gradients(&mut self) -> Result<()> {
        let views = self.layout.views(&self.flat)?;
        let views = views.iter().map(|view| view.f_set_requires_grad(true));
        self.views = views.collect::<std::result::Result<Vec<_>, _>>()?.into();
        Ok(())
    }

    /// Copies the values of `other`, which has the same layout.
    ///
    /// # Errors
    /// If the layouts differ in size.
    pub fn copy_from(&mut self, other: &Weights) -> Result<()> {
        tch::no_grad(|| self.flat.f_copy_(&other.flat))?;
        Ok(())
    }

    /// Polyak update: `w += tau (other − w)`, with `tau` in [0, 1].
    ///
    /// # Errors
    /// If the layouts differ in size.
    pub fn move_towards(&mut self, other: &Weights, tau: f64) -> Result<()> {
        tch::no_grad(|| self.flat.lerp_scalar_(&other.flat, tau))?;
        Ok(())
    }

    /// A copy of the flat buffer.
    ///
    /// # Errors
    /// If the memory is refused.
    pub fn snapshot(&self) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mut copy = self.flat.f_empty_like()?;
        copy.f_copy_(&self.flat)?;
        Ok(copy)
    }

    /// The flat buffer of all parameters.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The flat buffer, for writing. A write changes the parameters.
    pub fn flat_mut(&mut self) -> &mut Tensor {
        &mut self.flat
    }

    /// The layout of the flat buffer.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The parameters' names and values, in the layout's order.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.layout.entries.iter().map(|entry| entry.name.as_str()).zip(self.views.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> (Layout, ParameterId, ParameterId) {
        let mut layout = Layout::new();
        let weight = layout.add("linear.weight", &[3, 5], Init::Uniform { bound: 0.5 });
        let bias = layout.add("linear.bias", &[3], Init::Constant(2.0));
        (layout, weight, bias)
    }

    #[test]
    fn one_seed_gives_one_set_of_values() {
        let (layout, weight, bias) = layout();
        let draw = |seed| Weights::initial(&layout, seed, Device::Cpu).unwrap();
        assert_eq!(draw(7)[weight], draw(7)[weight]);
        assert_ne!(draw(7)[weight], draw(8)[weight]);
        assert_eq!(draw(7)[bias], Tensor::from_slice(&[2f32, 2.0, 2.0]));
        assert_eq!(layout.n_parameters(), 18);
        assert_eq!(layout.flat_bytes(), 32 * 4);
    }

    #[test]
    fn gradients_accumulate_in_the_flat_buffer() {
        let (layout, weight, bias) = layout();
        let mut weights = Weights::initial(&layout, 1, Device::Cpu).unwrap();
        let gradients = weights.record_gradients().unwrap();
        let x = Tensor::ones([5], (Kind::Float, Device::Cpu));
        let y = || (weights[weight].mv(&x) + &weights[bias]).sum(Kind::Float);
        y().backward();
        y().backward();
        assert_eq!(gradients.sum(Kind::Float).double_value(&[]), 2.0 * (15.0 + 3.0));
    }

    #[test]
    fn a_share_has_the_same_values_and_gradients_on_any_thread() {
        let (layout, weight, _) = layout();
        let mut weights = Weights::zeros(&layout, Device::Cpu).unwrap();
        let gradients = weights.record_gradients().unwrap();
        let mut share = weights.share();
        std::thread::spawn(move || {
            let _ = tch::no_grad(|| share.flat_mut().fill_(3.0));
            share[weight].square().sum(Kind::Float).backward();
        })
        .join()
        .unwrap();
        assert_eq!(weights[weight].sum(Kind::Float).double_value(&[]), 45.0);
        assert_eq!(gradients.max().double_value(&[]), 6.0);
    }

    #[test]
    fn writing_the_flat_buffer_writes_the_parameters() {
        let (layout, weight, _) = layout();
        let mut weights = Weights::zeros(&layout, Device::Cpu).unwrap();
        let _ = weights.flat_mut().fill_(3.0);
        assert_eq!(weights[weight].sum(Kind::Float).double_value(&[]), 45.0);
        let other = Weights::zeros(&layout, Device::Cpu).unwrap();
        weights.move_towards(&other, 0.5).unwrap();
        assert_eq!(weights[weight].sum(Kind::Float).double_value(&[]), 22.5);
    }
}
