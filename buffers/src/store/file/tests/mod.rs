//! A file survives kills at any moment and flipped bits anywhere.

mod bit_flips;
mod crash;
