//! One instrument's trading account: fills, costs, the stop and the mark, bar by bar.
//!
//! ```text
//!   close of bar t          open of bar t+1        inside bar t+1        close of bar t+1
//!   decision: a target ───> fill, if the target ──> stop, at its level ─> mark: equity, reward
//!                           is not the position     or at a worse open
//! ```
//!
//! One [`advance`](Account::advance) is one bar. Equity changes only by profit on the units held and by costs: `E_T
//! = E_0 + Σ pnl − Σ cost`. The reward of a bar is `10⁴ ln(E[t+1] / E[t])`, so rewards sum to 10⁴ × the log return.
//!
//! The units are fixed when a position opens (`position_limit × equity / price`, at the open that fills it) and
//! stay until it is closed; holding costs nothing. After a stop the account is flat until the next decision, which
//! may enter again. If a bar holds both the stop and a better price, the stop is filled first.
//!
//! The account models no interest, no funding, no partial fill, no margin call inside a bar, and no market impact
//! beyond the slippage.

mod rules;
mod state;
mod view;

pub use rules::{AccountRules, Costs, FLAT, LONG, N_ACTIONS, SHORT, target_of};
pub use state::{Account, BarOutcome, Fill};
pub use view::{ACCOUNT_NAMES, ACCOUNT_WIDTH};
