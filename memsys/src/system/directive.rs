//! Directives: what the policies want done about memory, each with the numbers that it rests on.
//!
//! A directive is plain data and does nothing. [`MemoryOptimizationSystem`](crate::system::MemoryOptimizationSystem)
//! carries it out, and whoever holds the bytes gives them back at a safe point.

use std::fmt;

use crate::limit::Readable;
use crate::system::collector::Generation;

/// A measure against high memory use, or the end of one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Directive {
    /// Give caches back, up to `bytes`.
    Collect {
        /// How much the collection covers.
        generation: Generation,
        /// The bytes to give back.
        bytes: u64,
        /// The numbers that it rests on.
        reason: Reason,
    },
    /// Give the free pages within the C library's heap back to the kernel.
    TrimHeap {
        /// The numbers that it rests on.
        reason: Reason,
    },
    /// Hold less data: compress it, move it to disk, or evict the oldest.
    Shrink {
        /// The bytes to give back.
        bytes: u64,
        /// The numbers that it rests on.
        reason: Reason,
    },
    /// Ask the learner for a step configuration with fewer bytes from its next step on.
    LowerStepConfig {
        /// The numbers that it rests on.
        reason: Reason,
    },
}

/// The numbers that a directive rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reason {
    /// The process holds much of the memory limit.
    Held {
        /// The bytes that it holds.
        held_bytes: u64,
        /// The memory limit in bytes.
        limit_bytes: u64,
    },
    /// Tasks wait for memory, in this process or another one.
    Pressure {
        /// The share of the last ten seconds in which some task waited, in percent.
        percent: f64,
    },
    /// More is resident and not counted than the residual's budget allows.
    Residual {
        /// Resident bytes less counted bytes.
        residual_bytes: u64,
        /// The residual's budget.
        budget_bytes: u64,
    },
    /// Allocations were refused outside of learner steps.
    Denied {
        /// How many were refused since the last reading.
        n_denied: u64,
    },
}

/// A directive and what came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DirectiveRecord {
    /// When the directive was decided, in milliseconds since the memory system started.
    pub at_millis: u64,
    /// The directive.
    pub directive: Directive,
    /// Bytes that it gave back; `None` if they are given back later, if it failed, or if the system only watches.
    pub given_bytes: Option<u64>,
}

impl Directive {
    /// The numbers that the directive rests on.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match *self {
            Self::Collect { reason, .. }
            | Self::TrimHeap { reason }
            | Self::Shrink { reason, .. }
            | Self::LowerStepConfig { reason } => reason,
        }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Collect { generation, bytes, .. } => {
                write!(formatter, "collect {generation} up to {}", Readable(bytes))?;
            }
            Self::TrimHeap { .. } => formatter.write_str("trim the heap")?,
            Self::Shrink { bytes, .. } => write!(formatter, "shrink buffers by {}", Readable(bytes))?,
            Self::LowerStepConfig { .. } => formatter.write_str("lower the step configuration")?,
        }
        write!(formatter, ": {}", self.reason())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Held { held_bytes, limit_bytes } => {
                let percent = 100.0 * held_bytes as f64 / limit_bytes as f64;
                let (held, limit) = (Readable(held_bytes), Readable(limit_bytes));
                write!(formatter, "{held} are held, {percent:.0} % of the memory limit of {limit}")
            }
            Self::Pressure { percent } => {
                write!(formatter, "tasks waited for memory in {percent:.1} % of the last 10 s")
            }
            Self::Residual { residual_bytes, budget_bytes } => {
                let (residual, budget) = (Readable(residual_bytes), Readable(budget_bytes));
                write!(formatter, "{residual} are resident and not counted, {budget} would be as usual")
            }
            Self::Denied { n_denied } => {
                write!(formatter, "{n_denied} allocations were refused outside of learner steps")
            }
        }
    }
}

impl fmt::Display for DirectiveRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.1} s: {}", self.at_millis as f64 / 1e3, self.directive)?;
        match self.given_bytes {
            Some(bytes) => write!(formatter, " (gave {})", Readable(bytes)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_line_states_the_numbers() {
        let reason = Reason::Held { held_bytes: 1900 << 20, limit_bytes: 2 << 30 };
        let directive = Directive::Collect { generation: Generation::Caches, bytes: 364 << 20, reason };
        let record = DirectiveRecord { at_millis: 12_340, directive, given_bytes: Some(300 << 20) };
        assert_eq!(
            record.to_string(),
            "12.3 s: collect generation 1 up to 364.0 MiB: 1.86 GiB are held, 93 % of the memory limit of 2.00 GiB (gave 300.0 MiB)"
        );
    }
}
