//! The loss of a DQN.

use memsys::libtorch::ScalarOps as _;
use tch::{Reduction, Tensor};

use crate::error::Result;

/// `y = r + discount · Q'(s', a*)`, with a* the best action by `selector` (double DQN: the online values of s';
/// else the target's own). All f32; values B × actions, the rest B. No gradient flows through it.
///
/// # Errors
/// Where shapes differ.
pub fn td_target(rewards: &Tensor, discounts: &Tensor, selector: &Tensor, target: &Tensor) -> Result<Tensor> {
    let best = selector.f_argmax(1, true)?;
    let value = target.f_gather(1, &best, false)?.f_squeeze_dim(1)?;
    Ok(discounts.f_mul(&value)?.f_add(rewards)?)
}

/// The weighted mean of Huber losses (δ = 1) of `Q(s, a) − y`, and the TD errors themselves (B, detached).
/// `weight_sum` is that of the whole batch, of which this may be a part: parts add up to the batch's mean.
///
/// Divided by the sum of weights and not by their number, the loss does not depend on what the weights were scaled by.
/// That scale, the largest weight in the replay, falls by orders of magnitude while errors shrink, and Adam's slow
/// second moment would take it for a falling learning rate.
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
    fn the_online_network_chooses_and_the_target_values() {
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
    fn parts_of_a_batch_add_up_to_its_mean() {
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
