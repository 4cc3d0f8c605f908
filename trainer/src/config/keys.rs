//! The table of keys: what each means, its type, its default, and its range with the unit.
//!
//! Defaults are those of the market; [`Config::defaults_for`] has what differs elsewhere.

use std::path::PathBuf;

use crate::config::choices::{
    ActivationChoice, Algorithm, DeviceChoice, Dropout, EmbedderPreset, EnvironmentKind, LocalRows,
    PrecisionChoice, Prefetch, ReplayTier, StampLabel, TargetUpdate,
};
use crate::config::define::{Row, SectionKeys, define_config};
use crate::config::raw::Written;
use crate::config::value::{self, Value, above, above_up_to, between};
use memsys::limit::MemoryLimit;

define_config! {
    /// The run: what it acts in, how long, on what, and where its results go.
    run: Run {
        /// What the agent acts in: `market` or `cartpole`. Defaults of other keys depend on it.
        environment: EnvironmentKind = EnvironmentKind::Market;
        /// Length of the run, counted over all environments together.
        environment_steps: u64 = 32_000, in 1.., unit "environment steps";
        /// Environments that act side by side, in one batch.
        n_environments: usize = 16, in 1..=4096, unit "environments";
        /// true: actor and learner take turns, and one seed gives one result to the bit.
        /// false: they run at once, and results differ from run to run.
        synchronous: bool = true;
        /// The source of all chance in the run: first weights, exploration, sampling, episodes.
        seed: u64 = 1, in 0.., unit "any whole number";
        /// Threads that compute; 0: all cores. The `compact` networks gain nothing from a second one.
        threads: usize = 1, in 0..=1024, unit "threads";
        /// Where tensors live: `auto` (a GPU that can be used, else the CPU), `cpu`, or `cuda:N` with N from 0.
        device: DeviceChoice = DeviceChoice::Auto;
        /// From one checkpoint to the next: what a killed run loses at most.
        checkpoint_interval_steps: u64 = 10_000, in 1.., unit "environment steps";
        /// From one evaluation on the validation part to the next.
        evaluation_interval_steps: u64 = 8_000, in 1.., unit "environment steps";
        /// The run's folder; empty: a new one under `runs/`.
        out: Option<PathBuf> = None;
        /// Batches of transitions that may wait between actor and learner; used where `synchronous` is false.
        queue_batches: usize = 4, in 1..=1024, unit "batches";
    }
    /// The bars, and how they are divided by time into training, validation and test.
    data: Data {
        /// CSV or Parquet files of bars, an instrument each; empty: the synthetic market.
        files: Vec<PathBuf> = Vec::new();
        /// How the files spell time, in strftime's letters such as `%d/%m/%Y %H:%M:%S`; empty: ISO 8601.
        time_format: Option<String> = None;
        /// The time zone of stamps that name none, as IANA calls it, such as `America/New_York`; empty: UTC.
        zone: Option<String> = None;
        /// Which moment of its bar a stamp names: `start` or `end`; empty: not told, and taken for `start`.
        label: Option<StampLabel> = None;
        /// Share of the time that is trained on: the first part.
        train_fraction: f64 = 0.6, in between(0.0, 1.0), unit "share of the bars";
        /// Share of the time that is validated on: the second part. The rest, which must not be nothing, is the test.
        validation_fraction: f64 = 0.2, in 0.0..1.0, unit "share of the bars";
    }
    /// The synthetic market that stands in where no files are given.
    synthetic: Synthetic {
        /// Its length in calendar days; five of seven trade.
        days: u32 = 730, in 1..=36_500, unit "days";
        /// The source of its chance: it is another market, and not another run in it.
        seed: u64 = 7, in 0.., unit "any whole number";
        /// Standard deviation of the part of a bar's return that can be predicted, in those of the bar;
        /// 0: nothing can be predicted.
        predictable_fraction: f64 = 0.15, in 0.0..=0.5, unit "standard deviations";
    }
    /// The trading account: what a trade costs, and what ends an episode.
    account: Account {
        /// Commission.
        commission_bps: f64 = 1.0, in 0.0..=1000.0, unit "basis points of the traded notional, a side";
        /// Half of the distance between bid and ask.
        half_spread_bps: f64 = 0.5, in 0.0..=1000.0, unit "basis points of the traded notional, a side";
        /// How much worse than the quote an order fills.
        slippage_bps: f64 = 0.5, in 0.0..=1000.0, unit "basis points of the traded notional, a side";
        /// Notional of a long or short position when it is entered.
        position_limit: f64 = 1.0, in above_up_to(0.0, 10.0), unit "times the equity";
        /// Distance from the entry price at which a position is closed; 0: no stop.
        stop_atr: f64 = 20.0, in 0.0.., unit "ATR of the 5-minute bars";
        /// Equity below which an episode is terminated.
        equity_floor: f64 = 0.5, in 0.0..1.0, unit "share of the starting balance";
        /// Penalty on the growth of the drawdown, reported apart from the reward; 0: none.
        drawdown_penalty: f64 = 0.0, in 0.0.., unit "basis points of reward for each of drawdown";
        /// Bars after which an episode is truncated.
        episode_bars: u32 = 1440, in 2..=100_000_000, unit "5-minute bars";
    }
    /// The networks that turn windows of bars into the 136 numbers of the state.
    embedders: Embedders {
        /// Their widths: `compact` (for a CPU) or `full` (the reference's 3.2 M parameters, for a GPU).
        preset: EmbedderPreset = EmbedderPreset::Compact;
        /// Share of activations that is dropped while learning: a number from 0 to below 1, or `preset`, the
        /// preset's own.
        dropout: Dropout = Dropout::Preset;
    }
    /// The agent: how it explores, what it learns, and how fast.
    agent: Agent {
        /// What it learns by: `dqn`.
        algorithm: Algorithm = Algorithm::Dqn;
        /// Double Q-learning: the learned network chooses the next action, the target network values it.
        double: bool = true;
        /// Dueling heads: the value of a state and the advantages of actions are learned apart.
        dueling: bool = true;
        /// Rewards that are summed before the value of a later state stands for the rest.
        n_step: usize = 3, in 1..=64, unit "environment steps";
        /// What a reward one step later is worth.
        discount: f64 = 0.97, in 0.0..1.0, unit "factor a step";
        /// Adam's step size.
        learning_rate: f64 = 1e-3, in above_up_to(0.0, 1.0), unit "step size";
        /// Norm to which longer gradients are cut.
        max_gradient_norm: f64 = 10.0, in above(0.0), unit "norm over all parameters";
        /// Transitions of a learner step.
        batch: usize = 128, in 1..=65_536, unit "transitions";
        /// Transitions that go through the network at once, at most: a batch is learned from in parts, each weighted by
        /// its true size. The memory limit may make them smaller, down to `memory.smallest_micro_batch`; smaller parts hold
        /// fewer bytes and give the same result but for rounding.
        micro_batch: usize = 128, in 1..=65_536, unit "transitions";
        /// The numbers that matrix products are computed in while learning: `f32`, `bf16` (on a CPU or a GPU), or `f16`
        /// with a scaled loss (on a GPU). Weights, sums and moments are f32 in all.
        precision: PrecisionChoice = PrecisionChoice::F32;
        /// How the target network follows: `periodic` (a copy now and then) or `soft` (a little, every step).
        target_update: TargetUpdate = TargetUpdate::Periodic;
        /// From one copy to the next, where `target_update` is `periodic`.
        target_interval: u64 = 100, in 1.., unit "learner steps";
        /// Share of the way that the target goes in a learner step, where `target_update` is `soft`.
        target_tau: f64 = 0.005, in above_up_to(0.0, 1.0), unit "share of the way";
        /// Share of random actions at first.
        epsilon_start: f64 = 1.0, in 0.0..=1.0, unit "share of the actions";
        /// Share of random actions at last; at most `epsilon_start`.
        epsilon_end: f64 = 0.1, in 0.0..=1.0, unit "share of the actions";
        /// Part of the run over which the share falls, in a straight line, from the first to the last.
        epsilon_fraction: f64 = 0.5, in 0.0..=1.0, unit "share of run.environment_steps";
        /// Steps for which a random action is held, on average; 1: it is drawn anew at every step.
        exploration_hold: u32 = 24, in 1..=100_000, unit "environment steps";
        /// Transitions that the replay holds before the first learner step; at most `replay.capacity`.
        learning_starts: usize = 2000, in 1.., unit "transitions";
        /// How often a transition is sampled on average: sampled transitions for each that is inserted.
        samples_per_insert: f64 = 4.0, in above(0.0), unit "transitions a transition";
        /// Rewards are multiplied by it before they are learned from; reports have them as they are.
        reward_scale: f64 = 0.1, in above(0.0), unit "factor";
        /// Width of the value head; in `cartpole`, of each layer of the network.
        hidden: usize = 128, in 1..=16_384, unit "units";
    }
    /// The replay: which transitions are kept, and which of them are learned from.
    replay: Replay {
        /// Transitions that it holds; then the oldest goes first.
        capacity: usize = 200_000, in 1..=1_000_000_000, unit "transitions";
        /// true: transitions that surprised are sampled more often. false: all alike.
        prioritized: bool = true;
        /// How far priority matters: 0 is not at all, 1 in proportion to the error. The reference's alpha. Errors in a
        /// market are noise for the most part, so its default is lower than elsewhere (0.6).
        priority_exponent: f64 = 0.2, in 0.0..=1.0, unit "exponent";
        /// How far weights make up for it at first: 0 is not at all, 1 wholly. It rises to 1 over the run. The
        /// reference's beta.
        importance_sampling_exponent: f64 = 0.4, in 0.0..=1.0, unit "exponent";
        /// How far down its rows may go: `hot` (they stay in memory as they are), `compressed` (in memory, encoded), or
        /// `mapped` (to `replay.plr` in the run's folder; checkpoints then refer to that file). All give the same bits.
        tier: ReplayTier = ReplayTier::Hot;
        /// What the replay and the market's streams may each hold in memory, where `tier` is `compressed`.
        memory_budget: u64 = 1_073_741_824, in 0.., unit "bytes";
        /// Share of `memory_budget`, or of `mmap_above`, at which a thread of its own begins to compress, the oldest rows
        /// first.
        compress_at: f64 = 0.8, in 0.0..=1.0, unit "share of the budget";
        /// Compressed rows and transitions above so many bytes go to the file, where `tier` is `mapped`; the market's streams by
        /// the same measure. Priorities stay in memory.
        mmap_above: u64 = 100_000_000, in 0.., unit "bytes";
        /// Bytes of the file that may be resident through mappings, where reading a row takes no call to the system.
        mmap_window: u64 = 67_108_864, in 0.., unit "bytes";
        /// How an environment's local rows are stored: `f32` as they are; `f16` in half the bytes, with a relative error of at
        /// most 0.05 % from 6.1e-5 to 65,504; `bf16` in half the bytes, with one of at most 0.4 % over the range of f32.
        local_rows: LocalRows = LocalRows::F32;
        /// `off`: a batch is drawn when its learner step begins. `ahead`: it is drawn when the step before begins, and
        /// gathered on a thread of its own while that is computed. `synchronous`: drawn as with `ahead`, gathered at
        /// once; the results are those of `ahead`, to the bit.
        prefetch: Prefetch = Prefetch::Off;
    }
    /// The memory limit: what the whole process may hold in memory, and what may be done to stay under it.
    memory: Memory {
        /// A size such as `2GiB` or `1.5GB`, a number of bytes, or a share of what the machine or its control group
        /// allows, such as `60%`.
        limit: MemoryLimit = MemoryLimit::Percent(80.0);
        /// true: every byte is counted, the memory limit holds, and a learner step that it has no room for is made again in
        /// fewer bytes. false: the usual way, to compare with: whole observations are copied into the replay, a batch
        /// goes through the network at once, attention is the plain product, and nothing is refused.
        managed: bool = true;
        /// false: to measure what counting costs, nothing is counted, watched or refused; all else is as managed.
        counted: bool = true;
        /// What may become of activations between forward and backward: `keep`, `recompute` (they are computed again),
        /// `spill` (they go to a file and come back), or `auto`: what fits, the fastest first. All give the same bits.
        activations: ActivationChoice = ActivationChoice::Auto;
        /// Parts in which a network is computed again, where activations are recomputed.
        checkpoint_segments: usize = 4, in 1..=64, unit "parts of an embedder";
        /// Tensors smaller than this stay in memory, where activations are spilled.
        spill_threshold: usize = 65_536, in 0.., unit "bytes";
        /// Where activations are spilled to, in files without a name; empty: the run's folder. It should not lie in
        /// memory, as /tmp may.
        spill_folder: Option<PathBuf> = None;
        /// true: on a GPU, gradients leave the device during backward, each as soon as it is whole.
        offload_gradients: bool = false;
        /// Below `agent.micro_batch`, the fewest transitions that go through the network at once.
        smallest_micro_batch: usize = 8, in 1..=65_536, unit "transitions";
        /// Share of the memory limit from which on a warning is told, and caches are collected.
        memory_warning_threshold: f64 = 0.75, in above_up_to(0.0, 1.0), unit "share of the memory limit";
        /// Share of the memory limit from which on it is critical: learner steps are computed in fewer bytes. At least the
        /// warning's.
        memory_critical_threshold: f64 = 0.90, in above_up_to(0.0, 1.0), unit "share of the memory limit";
        /// From one reading of memory to the next.
        monitoring_interval: f64 = 5.0, in above(0.0), unit "seconds";
        /// For tests of the promise: refuses every so-many-th allocation of a learner step, as though the memory limit had no
        /// room for it; 0: none.
        refuse_every: u64 = 0, in 0.., unit "allocations";
    }
}
