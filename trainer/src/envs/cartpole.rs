//! CartPole-v1: a pole on a cart, balanced by pushes to the left and to the right.
//!
//! A plain environment that a small network learns in minutes: it shows that the learner is sound before a market
//! does. The physics are those of Gymnasium's `CartPole-v1` (Barto, Sutton and Anderson, 1983, with Florian's
//! correction), with Euler integration in f64. The reward is 1 for every step, the last one included. The
//! observation is the state: cart position (m), cart speed (m/s), pole angle (rad), pole speed (rad/s). It has no
//! shared part.

use rand::Rng;
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::envs::{Environment, Step};

/// Steps after which an episode is truncated.
pub const EPISODE_STEPS: u32 = 500;

const GRAVITY: f64 = 9.8;
const CART_MASS: f64 = 1.0;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + CART_MASS;
/// Half of the pole's length, in metres.
const POLE_HALF_LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = POLE_MASS * POLE_HALF_LENGTH;
const FORCE: f64 = 10.0;
/// Seconds between two states.
const TAU_SECONDS: f64 = 0.02;
const ANGLE_LIMIT: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
const POSITION_LIMIT: f64 = 2.4;
/// Each number of a first state is uniform in ± this.
const START_LIMIT: f64 = 0.05;

/// The cart and its pole. A new one stands upright and still.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CartPole {
    /// Position, speed, angle, angular speed.
    state: [f64; 4],
    n_steps: u32,
}

/// A saved [`CartPole`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartPoleState {
    /// The bits of position, speed, angle and angular speed.
    state_bits: [u64; 4],
    n_steps: u32,
}

impl CartPole {
    /// A cart at rest in the middle, its pole upright.
    #[must_use]
    pub fn new() -> Self {
        CartPole::default()
    }
}

impl Environment for CartPole {
    type State = CartPoleState;

    fn n_actions(&self) -> usize {
        2
    }

    fn local_width(&self) -> usize {
        4
    }

    fn reset(&mut self, rng: &mut Pcg64Mcg) {
        self.state = std::array::from_fn(|_| rng.random_range(-START_LIMIT..START_LIMIT));
        self.n_steps = 0;
    }

    /// Pushes left (0) or right (any other action) for 0.02 s.
    fn step(&mut self, action: usize) -> Step {
        let [x, x_dot, theta, theta_dot] = self.state;
        let force = if action == 0 { -FORCE } else { FORCE };
        let (sin, cos) = (theta.sin(), theta.cos());

        let push = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
        let theta_acceleration = (GRAVITY * sin - cos * push)
            / (POLE_HALF_LENGTH * (4.0 / 3.0 - POLE_MASS * (cos * cos) / TOTAL_MASS));
        let x_acceleration = push - POLE_MASS_LENGTH * theta_acceleration * cos / TOTAL_MASS;

        self.state = [
            x + TAU_SECONDS * x_dot,
            x_dot + TAU_SECONDS * x_acceleration,
            theta + TAU_SECONDS * theta_dot,
            theta_dot + TAU_SECONDS * theta_acceleration,
        ];
        self.n_steps += 1;
        Step {
            reward: 1.0,
            penalty: 0.0,
            terminated: self.state[0].abs() > POSITION_LIMIT || self.state[2].abs() > ANGLE_LIMIT,
            truncated: self.n_steps >= EPISODE_STEPS,
        }
    }

    fn instrument(&self) -> u16 {
        0
    }

    fn t(&self) -> u32 {
        0
    }

    fn write_local(&self, row: &mut [f32]) {
        row.copy_from_slice(&self.state.map(|x| x as f32));
    }

    fn state(&self) -> CartPoleState {
        CartPoleState { state_bits: self.state.map(f64::to_bits), n_steps: self.n_steps }
    }

    fn restore(&mut self, state: CartPoleState) {
        self.state = state.state_bits.map(f64::from_bits);
        self.n_steps = state.n_steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn check(start: [f64; 4], actions: &[usize], expected: &[[f64; 4]]) {
        let mut cart = CartPole { state: start, n_steps: 0 };
        for (i, (&action, expected)) in actions.iter().zip(expected).enumerate() {
            let step = cart.step(action);
            for (value, expected) in cart.state.iter().zip(expected) {
                assert!((value - expected).abs() <= 1e-14, "step {i}: {:?} is not {expected:?}", cart.state);
            }
            assert_eq!((step.reward, step.terminated, step.truncated), (1.0, false, false), "step {i}");
        }
    }

    #[test]
    fn states_are_those_of_gymnasium() {
        // Printed by gymnasium 1.4.0: env.unwrapped.state = start, then env.unwrapped.step(action).
        check(
            [0.01, -0.02, 0.03, -0.04],
            &[1, 1, 0, 1, 0, 0, 1, 1],
            &[
                [0.009600000000000001, 0.17467919574755525, 0.0292, -0.3230687179600081],
                [0.013093583914951107, 0.36937344399176103, 0.02273862564079984, -0.6064020159998607],
                [0.020481052794786327, 0.17394104931769996, 0.010610585320802625, -0.3066446263789625],
                [0.023959873781140326, 0.3689102079328361, 0.004477692793223374, -0.5959624480242942],
                [0.031338077939797045, 0.17372587880180418, -0.00744155616726251, -0.30187245208590807],
                [0.03481259551583313, -0.021289224954454344, -0.013479005208980672, -0.011545693213184105],
                [0.03438681101674404, 0.1740234134455935, -0.013709919073244354, -0.30845074492721064],
                [0.03786727928565591, 0.36933800174425324, -0.019878933971788568, -0.6054256839719747],
            ],
        );
    }

    #[test]
    fn the_pole_falls_in_the_step_in_which_it_falls_in_gymnasium() {
        // Eight pushes to the right from rest leave it up at −0.166 rad; the ninth, at −0.215, is the last.
        let mut cart = CartPole::new();
        assert!((0..8).all(|_| !cart.step(1).terminated));
        assert!(cart.step(1).terminated);
        let expected = [0.14065097203306187, 1.7603811257683097, -0.21518604988500967, -2.777886494012814];
        for (value, expected) in cart.state.iter().zip(expected) {
            assert!((value - expected).abs() <= 1e-13, "{:?}", cart.state);
        }
    }

    #[test]
    fn leaving_the_track_terminates() {
        let mut cart = CartPole { state: [2.39, 1.0, 0.0, 0.0], n_steps: 0 };
        assert!(cart.step(0).terminated);
    }

    #[test]
    fn step_500_truncates() {
        let mut cart = CartPole { state: [0.0; 4], n_steps: EPISODE_STEPS - 2 };
        assert!(!cart.step(0).truncated);
        let last = cart.step(1);
        assert!(last.truncated && !last.terminated);
    }

    #[test]
    fn reset_draws_small_states_from_the_generator_alone() {
        let mut cart = CartPole::new();
        let mut rng = Pcg64Mcg::seed_from_u64(7);
        let mut again = Pcg64Mcg::seed_from_u64(7);
        for _ in 0..100 {
            cart.reset(&mut rng);
            assert!(cart.state.iter().all(|x| x.abs() <= START_LIMIT));
            let mut other = CartPole { state: [9.0; 4], n_steps: 40 };
            other.reset(&mut again);
            assert_eq!(cart, other);
        }
    }

    #[test]
    fn a_saved_cart_goes_on_to_the_bit() {
        let mut cart = CartPole::new();
        cart.reset(&mut Pcg64Mcg::seed_from_u64(3));
        cart.step(1);
        let text = serde_json::to_string(&cart.state()).expect("writes");
        let mut copy = CartPole::new();
        copy.restore(serde_json::from_str(&text).expect("reads"));
        for i in 0..20 {
            assert_eq!(cart.step(i % 2), copy.step(i % 2));
            assert_eq!(cart, copy);
        }
    }
}
