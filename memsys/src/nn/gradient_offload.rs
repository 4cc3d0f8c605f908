//! Gradients that move to the host during backward, each as soon as it is complete, so the device never holds all of
//! them.
//!
//! A backward that fails leaves no gradient behind on the device: once the caller has set the sums to zero, the next
//! attempt adds each gradient once. No allocator here sees pinned memory, so a reservation declares it.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::ledger::Owner;
use crate::ledger::reservation::Reservation;
use crate::libtorch;
use crate::nn::parameters::Weights;

/// The gradients of one set of weights, in host memory. Every backward adds to them until this is dropped.
#[derive(Debug)]
pub struct HostGradients {
    flat: Tensor,
    recording: Weights,
    /// The pinned bytes; it goes after the buffer.
    _pinned: Reservation,
}

/// Starts to record gradients as [`Weights::record_gradients`] does, but in a flat buffer in host memory. The buffer is
/// zero at first, and pinned if the weights are on a GPU. The sums equal those of `record_gradients` to the bit.
///
/// # Errors
/// If the memory for the buffer is refused.
pub fn offload(weights: &mut Weights) -> Result<HostGradients> {
    let device = weights.flat().device();
    let pin = |flat: Tensor| Ok(flat.f_pin_memory(device)?);
    offload_pinned(weights, device.is_cuda().then_some(pin))
}

/// Offloads into a buffer that `pin` has moved to pinned memory, if it is given.
fn offload_pinned(
    weights: &mut Weights,
    pin: Option<impl FnOnce(Tensor) -> Result<Tensor>>,
) -> Result<HostGradients> {
    let mut pinned = Reservation::declared(Owner::entered());
    let mut flat = Tensor::f_zeros(weights.flat().size(), (Kind::Float, Device::Cpu))?;
    if let Some(pin) = pin {
        let bytes = (flat.numel() * flat.kind().elt_size_in_bytes()) as u64;
        // The allocator of pinned memory hands out blocks whose size is a power of two.
        pinned.try_set(bytes.next_power_of_two())?;
        flat = pin(flat)?;
    }
    weights.require_gradients()?;
    let gradients = HostGradients { recording: weights.share(), flat, _pinned: pinned };
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
    use crate::ledger::budget;
    use crate::nn::activations::release_failed_backward;
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
    fn an_attempt_that_was_refused_anywhere_leaves_no_gradient_for_the_next_one() {
        libtorch::count_tensors().unwrap();
        let [x, weight] = [0.3, 0.7]
            .map(|phase| (Tensor::arange(64 * 64, (Kind::Float, Device::Cpu)) * phase).sin().view([64, 64]));
        let weight = weight.set_requires_grad(true);
        // Sums of another kind of number make the hook allocate, as the copy from a GPU does.
        let mut host = Tensor::zeros([64, 64], (Kind::Double, Device::Cpu));
        libtorch::offload_gradient(&weight, &host).unwrap();
        let backward = || x.f_matmul(&weight)?.f_square()?.f_sum(Kind::Float)?.f_backward();
        backward().unwrap();
        let expected = host.copy();
        let mut n_refused = 0;
        for every in 1..40 {
            let _ = host.zero_();
            crate::ledger::injection::inject_refusals_here(every);
            let refused = backward().is_err();
            crate::ledger::injection::inject_refusals_here(0);
            release_failed_backward().unwrap();
            if refused {
                n_refused += 1;
                let _ = host.zero_();
                backward().unwrap();
            }
            assert_eq!(host, expected, "allocation {every} was refused");
        }
        let _ = budget::take_refusal();
        assert!(n_refused > 3, "{n_refused}");
        libtorch::stop_offload(&weight).unwrap();
    }

    #[test]
    fn pinned_bytes_have_an_owner_for_as_long_as_the_gradients_live() {
        let owner = Owner::named("test/pinned");
        let (mut weights, _) = network();
        let _owner = owner.enter();
        let n_bytes = weights.flat().numel() as u64 * 4;
        let gradients = offload_pinned(&mut weights, Some(|flat| Ok(flat))).unwrap();
        let pinned_bytes = owner.bytes() - owner.tensor_bytes();
        assert_eq!(pinned_bytes, n_bytes.next_power_of_two());
        assert!(pinned_bytes >= n_bytes);
        drop(gradients);
        assert_eq!(owner.bytes() - owner.tensor_bytes(), 0);
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
