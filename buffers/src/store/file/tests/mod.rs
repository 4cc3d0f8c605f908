//! What a file survives: kills at any moment, flipped bits anywhere.

mod bit_flips;
mod crash;
