//! The loss of a DQN.

use memsys::libtorch::ScalarOps as _;
use tch::{Reduction, Tensor};

use crate::error::Result;

/// `y = r + discount · Q'(s', a*)` with `a* = argmax selector(s')`.
///
/// In double DQN the selector is the online network's values of s', else the target network's. `selector` and
/// `target` are B × actions, the rest B; `target` is f32. Call it without gradients.
///
/// # Errors
/// Where shapes differ.
pub fn td_target(rewards: &Tensor, discounts: &Tensor, selector: &Tensor, target: &Tensor) -> Result<Tensor> {
    let best = selector.f_argmax(1, true)?;
    let value = target.f_gather(1, &best, false)?.f_squeeze_dim(1)?;
    Ok(discounts.f_mul(&value)?.f_add(rewards)?)
}

/// The weighted mean of the Huber loss (δ = 1) of the TD errors `Q(s, a) − y`, and the TD errors (B, detached).
/// `weight_sum` is that of the whole batch, so that the losses of its micro-batches add up to its mean.
///
/// The loss is divided by the sum of the weights and not by their number, so the scale of the weights cancels. That
/// scale, the largest weight in the replay, falls by orders of magnitude while errors shrink. Adam's slow second
/// moment would turn the fall into a falling learning rate.
///
/// # Errors
/// Where shapes differ.
pub fn weighted_huber(
    values: &Tensor,
    actions: &Tensor,
    td_target: &Tensor,
    weights: &Tensor,
    weight_sum: f64,
) -> Result<(Tensor, Tensor)> {
    let value = values.f_gather(1, &actions.f_unsqueeze(1)?, false)?.f_squeeze_dim(1)?;
    let td_errors = value.f_detach()?.f_sub(td_target)?;
    let loss = value.f_huber_loss(td_target, Reduction::None, 1.0)?.f_mul(weights)?;
    Ok((loss.f_sum(tch::Kind::Float)?.div_scalar(weight_sum)?, td_errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_chooses_the_action_that_the_target_values() {
        let _turn = crate::tests::rng_lock::lock();
        let online = Tensor::from_slice(&[1f32, 3.0, 2.0]).view([1, 3]);
        let target = Tensor::from_slice(&[10f32, 20.0, 40.0]).view([1, 3]);
        let (reward, discount) = (Tensor::from_slice(&[0.5f32]), Tensor::from_slice(&[0.9f32]));
        let double = td_target(&reward, &discount, &online, &target).unwrap();
        assert!((double.double_value(&[0]) - 18.5).abs() < 1e-5);
        let plain = td_target(&reward, &discount, &target, &target).unwrap();
        assert!((plain.double_value(&[0]) - 36.5).abs() < 1e-5);
        let nothing = td_target(&reward, &Tensor::from_slice(&[0f32]), &online, &target).unwrap();
        assert_eq!(nothing.double_value(&[0]), 0.5);
    }

    #[test]
    fn losses_of_micro_batches_add_up_to_the_mean_of_the_batch() {
        let _turn = crate::tests::rng_lock::lock();
        let values = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0]).view([3, 2]);
        let actions = Tensor::from_slice(&[0i64, 1, 1]);
        let td_target = Tensor::from_slice(&[0.5f32, 0.0, 6.0]);
        let weights = Tensor::from_slice(&[1f32, 0.5, 1.0]);
        let part = |from, n| {
            let (loss, errors) = weighted_huber(
                &values.narrow(0, from, n),
                &actions.narrow(0, from, n),
                &td_target.narrow(0, from, n),
                &weights.narrow(0, from, n),
                2.5,
            )
            .unwrap();
            (loss.double_value(&[]), Vec::<f32>::try_from(errors).unwrap())
        };
        let (whole, errors) = part(0, 3);
        // huber: 0.125, 3.5 (of 4), 0 (of 0)
        assert!((whole - (0.125 + 0.5 * 3.5 + 0.0) / 2.5).abs() < 1e-6, "{whole}");
        assert_eq!(errors, [0.5, 4.0, 0.0]);
        assert!((part(0, 1).0 + part(1, 2).0 - whole).abs() < 1e-6);
    }
}
