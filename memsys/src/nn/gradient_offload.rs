//! Gradients that move to the host during backward, each as soon as it is complete, so the device never holds all of
//! them.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::libtorch;
use crate::nn::parameters::Weights;

/// The gradients of one set of weights, in host memory. Every backward adds to them until this is dropped.
#[derive(Debug)]
pub struct HostGradients {
    flat: Tensor,
    recording: Weights,
}

/// Starts to record gradients as [`Weights::record_gradients`] does, but in a flat buffer in host memory. The buffer is
/// zero at first, and pinned if the weights are on a GPU. The sums equal those of `record_gradients` to the bit.
///
/// # Errors
/// If the memory for the buffer is refused.
pub fn offload(weights: &mut Weights) -> Result<HostGradients> {
    let device = weights.flat().device();
    let mut flat = Tensor::f_zeros(weights.flat().size(), (Kind::Float, Device::Cpu))?;
    if device.is_cuda() {
        flat = flat.f_pin_memory(device)?;
    }
    weights.require_gradients()?;
    let gradients = HostGradients { recording: weights.share(), flat };
    let host_views = weights.layout().views(&gradients.flat)?;
    for ((_, parameter), host_view) in weights.named().zip(host_views) {
        libtorch::offload_gradient(parameter, &host_view)?;
    }
    Ok(gradients)
}

impl HostGradients {
    /// The summed gradients, in the weights' layout.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// The summed gradients, for the caller to scale or set to zero between steps.
    pub fn flat_mut(&mut self) -> &mut Tensor {
        &mut self.flat
    }
}

impl Drop for HostGradients {
    fn drop(&mut self) {
        for (_, parameter) in self.recording.named() {
            // If this fails, the hook adds to a buffer that nobody reads, which does no harm.
            let _ = libtorch::stop_offload(parameter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameters::{Init, Layout, ParameterId};

    fn network() -> (Weights, [ParameterId; 2]) {
        let mut layout = Layout::new();
        let first = layout.add("first", &[24, 24], Init::Uniform { bound: 0.3 });
        let last = layout.add("last", &[24, 24], Init::Uniform { bound: 0.3 });
        (Weights::initial(&layout, 5, Device::Cpu).unwrap(), [first, last])
    }

    /// Two micro-batches. Each uses the first parameter twice.
    fn backward_twice(weights: &Weights, [first, last]: [ParameterId; 2]) {
        for phase in [0.3, 0.7] {
            let x = (Tensor::arange(24 * 5, (Kind::Float, Device::Cpu)) * phase).sin().view([5, 24]);
            let h = x.matmul(&weights[first]).tanh().matmul(&weights[first]).tanh();
            h.matmul(&weights[last]).square().sum(Kind::Float).backward();
        }
    }

    #[test]
    fn offloaded_gradients_are_those_of_plain_accumulation_to_the_bit() {
        let (mut plain, ids) = network();
        let expected = plain.record_gradients().unwrap();
        backward_twice(&plain, ids);

        let (mut weights, ids) = network();
        let gradients = offload(&mut weights).unwrap();
        backward_twice(&weights, ids);
        assert!(expected.abs().max().double_value(&[]) > 0.0);
        assert_eq!(*gradients.flat(), expected);
        assert!(weights.named().all(|(_, parameter)| !parameter.grad().defined()), "freed on the device");
    }

    #[test]
    fn a_dropped_offload_leaves_the_gradients_to_libtorch() {
        let (mut weights, ids) = network();
        drop(offload(&mut weights).unwrap());
        backward_twice(&weights, ids);
        assert!(weights.named().all(|(_, parameter)| parameter.grad().defined()));
        let recorded = weights.record_gradients().unwrap();
        backward_twice(&weights, ids);
        assert!(recorded.abs().max().double_value(&[]) > 0.0);
    }
}
