//! Tests of every activation mode on a chain of eight stages with dropout, and of what must fail.

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::ledger::Owner;
use crate::ledger::budget;
use crate::libtorch;
use crate::nn::activations::{
    ActivationMode, Options, Scope, Stage, StageModes, check_spill_folder, enter, n_failed_spills,
    release_failed_backward, sequential, spilled_bytes,
};

const N_STAGES: usize = 8;
/// The number of the chain's first stage.
const FIRST_STAGE: usize = 2;
const ROWS: i64 = 200;
const WIDTH: i64 = 24;

/// The tests of this file take turns, because libtorch's generator and the count of spilled bytes belong to the process.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scope(mode: ActivationMode, threshold_bytes: u64) -> Scope {
    enter(&Options { modes: mode.into(), threshold_bytes, ..Options::default() }).unwrap()
}

/// Runs `work` under a new owner. Returns its output, the most bytes of tensors that it held, and those that it left.
fn counted_bytes<T>(owner: &'static str, work: impl FnOnce() -> T) -> (T, u64, u64) {
    libtorch::count_tensors().unwrap();
    let owner = Owner::named(owner);
    let output = {
        let _entered = owner.enter();
        work()
    };
    (output, owner.peak_bytes(), owner.tensor_bytes())
}

fn chirp(shape: &[i64], phase: f64) -> Tensor {
    let n: i64 = shape.iter().product();
    (Tensor::arange(n, (Kind::Float, Device::Cpu)) * 0.37 + phase).sin().view(shape)
}

struct Chain {
    weights: Vec<Tensor>,
    x: Tensor,
}

impl Chain {
    fn new(rows: i64, width: i64) -> Self {
        let weight = |i| (chirp(&[width, width], f64::from(i)) / 4.0).set_requires_grad(true);
        Self { weights: (0..N_STAGES as i32).map(weight).collect(), x: chirp(&[rows, width], 0.1) }
    }

    fn stages(&self) -> Vec<Stage<Error>> {
        let stage = |weight: &Tensor| -> Stage<Error> {
            let weight = weight.shallow_clone();
            Box::new(move |x| {
                let y = x.f_matmul(&weight.f_transpose(0, 1)?)?.f_gelu("none")?.f_dropout(0.2, true)?;
                // A product that saves two views of one storage.
                let halves = y.f_split(WIDTH / 2, 1)?;
                Ok(Tensor::f_cat(&[halves[0].f_mul(&halves[1])?.f_tanh()?, halves[1].f_tanh()?], 1)?
                    .f_add(x)?)
            })
        };
        self.weights.iter().map(stage).collect()
    }

    fn try_step(&self) -> Result<()> {
        tch::manual_seed(11);
        let y = sequential(FIRST_STAGE, self.stages(), &self.x)?;
        y.f_square()?.f_mean(Kind::Float)?.f_backward()?;
        Ok(())
    }

    /// The gradients of one step, and a number that is drawn after it.
    fn step(&self) -> (Vec<Tensor>, f64) {
        self.try_step().unwrap();
        let drawn = Tensor::rand([1], (Kind::Double, Device::Cpu)).double_value(&[0]);
        (self.take_gradients(), drawn)
    }

    fn take_gradients(&self) -> Vec<Tensor> {
        let take = |weight: &Tensor| {
            let gradient = weight.grad().copy();
            weight.shallow_clone().zero_grad();
            gradient
        };
        self.weights.iter().map(take).collect()
    }
}

#[test]
fn every_activation_mode_gives_the_same_gradients_to_the_bit() {
    let _turn = turn();
    let chain = Chain::new(ROWS, WIDTH);
    let plain = chain.step();
    assert!(plain.0.iter().all(|gradient| gradient.abs().max().double_value(&[]) > 0.0));
    for (mode, threshold_bytes) in [
        (ActivationMode::Keep, 0),
        (ActivationMode::Recompute, 0),
        (ActivationMode::Spill, 0),
        (ActivationMode::Spill, 64 << 10),
    ] {
        let _scope = scope(mode, threshold_bytes);
        for round in 0..2 {
            assert_eq!(chain.step(), plain, "{mode:?}, {threshold_bytes} bytes, round {round}");
        }
    }
    assert_eq!(spilled_bytes().file_bytes, 0);
}

#[test]
fn any_mode_of_each_stage_gives_the_same_gradients_to_the_bit() {
    let _turn = turn();
    let chain = Chain::new(ROWS, WIDTH);
    let plain = chain.step();
    let all = [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill];
    // Base 3: every pair of neighbours has every pair of modes.
    for number in (0..3usize.pow(N_STAGES as u32)).step_by(97) {
        let mode = |stage: u32| all[number / 3usize.pow(stage) % 3];
        let modes = (0..N_STAGES as u32).fold(StageModes::default(), |modes, stage| {
            modes.with(FIRST_STAGE + stage as usize, mode(stage))
        });
        let _scope = enter(&Options { modes, threshold_bytes: 0, ..Options::default() }).unwrap();
        assert_eq!(chain.step(), plain, "{modes:?}");
    }
    assert_eq!(spilled_bytes().file_bytes, 0);
}

#[test]
fn only_the_stage_that_spills_writes_to_the_file() {
    let _turn = turn();
    let chain = Chain::new(ROWS, WIDTH);
    let spilled = |modes: StageModes| {
        let _scope = enter(&Options { modes, threshold_bytes: 0, ..Options::default() }).unwrap();
        let y = sequential(FIRST_STAGE, chain.stages(), &chain.x).unwrap();
        let live_bytes = spilled_bytes().live_bytes;
        drop(y);
        live_bytes
    };
    let one = spilled(StageModes::default().with(FIRST_STAGE + 3, ActivationMode::Spill));
    assert!(one > 0);
    let all =
        (0..N_STAGES).map(|i| spilled(StageModes::default().with(FIRST_STAGE + i, ActivationMode::Spill)));
    let all = all.collect::<Vec<_>>();
    assert!(all[1..].iter().all(|bytes| *bytes == one), "{all:?}");
    assert_eq!(spilled(StageModes::default().with(FIRST_STAGE + N_STAGES, ActivationMode::Spill)), 0);
}

#[test]
fn recompute_and_spill_lower_the_peak_and_leave_nothing() {
    let _turn = turn();
    let chain = Chain::new(2000, WIDTH);
    // The first step allocates the weights' gradients, which stay.
    chain.step();
    let of = |mode, owner| {
        let _scope = scope(mode, 0);
        let (_, peak_bytes, left_bytes) = counted_bytes(owner, || drop(chain.step()));
        assert_eq!(left_bytes, 0, "{mode:?}");
        peak_bytes
    };
    let keep = of(ActivationMode::Keep, "test/chain/keep");
    let recompute = of(ActivationMode::Recompute, "test/chain/recompute");
    let spill = of(ActivationMode::Spill, "test/chain/spill");
    println!("peak bytes: keep {keep}, recompute {recompute}, spill {spill}");
    assert!(recompute * 2 < keep, "{recompute} of {keep}");
    assert!(spill * 3 < keep, "{spill} of {keep}");
}

/// Checks that backward fails with `wanted` after `spoil` has written into the input or a saved tensor of a stage.
fn check_spoiled(mode: ActivationMode, spoil: fn(&Tensor, &Tensor), wanted: &str) {
    let _scope = scope(mode, 0);
    let weight = chirp(&[4, 4], 0.0).set_requires_grad(true);
    let inner = Arc::new(Mutex::new(None));
    let into = Arc::clone(&inner);
    let stage: Stage<Error> = Box::new(move |x| {
        let h = x.f_matmul(&weight)?;
        let y = h.f_square()?;
        into.lock().unwrap().get_or_insert(h);
        Ok(y)
    });
    let x = chirp(&[3, 4], 1.0);
    let y = sequential(FIRST_STAGE, vec![stage], &x).unwrap();
    let h = inner.lock().unwrap().take().unwrap();
    tch::no_grad(|| spoil(&x, &h));
    let error = y.sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains(wanted), "{mode:?}: {error}");
}

#[test]
fn a_write_in_place_to_a_saved_tensor_is_an_error_of_backward() {
    let _turn = turn();
    for mode in [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill] {
        let spoil = |_: &Tensor, h: &Tensor| drop(h.shallow_clone().fill_(1.0));
        check_spoiled(mode, spoil, "modified by an inplace operation");
    }
}

#[test]
fn a_write_in_place_to_the_input_of_a_group_is_an_error_of_backward() {
    let _turn = turn();
    for mode in [ActivationMode::Keep, ActivationMode::Recompute, ActivationMode::Spill] {
        let spoil = |x: &Tensor, _: &Tensor| drop(x.shallow_clone().fill_(1.0));
        check_spoiled(mode, spoil, "modified by an inplace operation");
    }
}

/// Checks a chain whose third stage calls `fault` from its second run on: backward must fail with `wanted` and hold
/// nothing, and the next step must be unchanged.
fn check_fault(fault: fn(&Tensor) -> Result<Tensor>, wanted: &'static str) {
    let _turn = turn();
    let chain = Chain::new(ROWS, WIDTH);
    let plain = chain.step();
    let _scope = scope(ActivationMode::Recompute, 0);
    let mut stages = chain.stages();
    let third = stages.remove(2);
    let n_runs = Mutex::new(0);
    stages.insert(
        2,
        Box::new(move |x| {
            let is_first = {
                let mut n_runs = n_runs.lock().unwrap_or_else(PoisonError::into_inner);
                *n_runs += 1;
                *n_runs == 1
            };
            if is_first { third(x) } else { fault(x) }
        }),
    );
    tch::manual_seed(11);
    let failing_step = || {
        let y = sequential(FIRST_STAGE, stages, &chain.x).unwrap();
        let error = y.square().mean(Kind::Float).f_backward().unwrap_err().to_string();
        drop(y);
        release_failed_backward().unwrap();
        error
    };
    let (error, _, left_bytes) = counted_bytes(wanted, failing_step);
    assert!(error.contains("cannot be recomputed") && error.contains(wanted), "{error}");
    assert_eq!(left_bytes, 0);
    chain.take_gradients();
    assert_eq!(chain.step(), plain);
}

#[test]
fn an_error_of_a_recomputed_stage_is_an_error_of_backward() {
    let failing_stage = |_: &Tensor| Err(Error::Libtorch { what: "run a stage", message: "no more".into() });
    check_fault(failing_stage, "libtorch could not run a stage: no more");
}

#[test]
fn a_refused_allocation_in_a_recomputation_is_an_error_of_backward() {
    check_fault(|_| Ok(Tensor::f_empty([1 << 58], (Kind::Uint8, Device::Cpu))?), "bytes");
}

#[test]
fn a_refusal_anywhere_in_a_step_leaves_nothing_and_the_next_step_as_it_was() {
    let _turn = turn();
    let chain = Chain::new(ROWS, WIDTH);
    let plain = chain.step();
    for (mode, owner) in [
        (ActivationMode::Keep, "test/refused/keep"),
        (ActivationMode::Recompute, "test/refused/recompute"),
        (ActivationMode::Spill, "test/refused/spill"),
    ] {
        let _scope = scope(mode, 0);
        let mut n_refused = 0;
        for every in (1..400).step_by(9) {
            crate::ledger::injection::inject_refusals_here(every);
            let attempt = || budget::attempt(0, || chain.try_step()).is_err();
            let (is_refused, _, _) = counted_bytes(owner, attempt);
            crate::ledger::injection::inject_refusals_here(0);
            release_failed_backward().unwrap();
            assert_eq!(Owner::named(owner).tensor_bytes(), 0, "{mode:?}, allocation {every}");
            n_refused += u32::from(is_refused);
            chain.take_gradients();
            assert_eq!(chain.step(), plain, "{mode:?} after a refusal of allocation {every}");
        }
        println!("{mode:?}: {n_refused} steps refused");
        assert!(n_refused > 5, "{mode:?}: {n_refused}");
        assert_eq!(spilled_bytes().live_bytes, 0);
    }
    let _ = budget::take_refusal();
}

#[test]
fn a_panic_of_a_recomputed_stage_is_an_error_of_backward() {
    check_fault(|_| panic!("a stage of this test"), "a stage panicked: a stage of this test");
}

#[test]
fn a_recomputation_that_saves_less_is_an_error_of_backward() {
    check_fault(|x| Ok(x.shallow_clone()), "tensors, the first run saved");
}

#[test]
fn a_recomputation_that_saves_more_is_an_error_of_backward() {
    let _turn = turn();
    let _scope = scope(ActivationMode::Recompute, 0);
    let n_runs = Mutex::new(0);
    let stage: Stage<Error> = Box::new(move |x| {
        let mut n_runs = n_runs.lock().unwrap();
        *n_runs += 1;
        (0..*n_runs).try_fold(x.shallow_clone(), |x, _| Ok(x.f_square()?))
    });
    let x = chirp(&[3], 1.0).set_requires_grad(true);
    let y = sequential(FIRST_STAGE, vec![stage], &(&x * 2.0)).unwrap();
    let error = y.sum(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains("saves more tensors"), "{error}");
}

#[test]
fn a_failed_first_run_ends_the_recording() {
    let _turn = turn();
    let chain = Chain::new(ROWS, WIDTH);
    let plain = chain.step();
    let _scope = scope(ActivationMode::Recompute, 0);
    let failing = |fault: fn() -> Error| {
        let mut stages = chain.stages();
        stages.insert(1, Box::new(move |_| Err(fault())));
        stages
    };
    let error = || Error::Libtorch { what: "run", message: String::new() };
    assert!(sequential(FIRST_STAGE, failing(error), &chain.x).is_err());
    let panicking = failing(|| panic!("a stage of this test"));
    let run = std::panic::AssertUnwindSafe(|| sequential(FIRST_STAGE, panicking, &chain.x));
    assert!(std::panic::catch_unwind(run).is_err());
    assert_eq!(chain.step(), plain);
}

#[test]
fn another_threads_draws_are_an_error_and_never_other_masks() {
    let _turn = turn();
    let _scope = scope(ActivationMode::Recompute, 0);
    let chain = Chain::new(ROWS, WIDTH);
    let mut stages = chain.stages();
    let second = stages.remove(1);
    stages.insert(
        1,
        Box::new(move |x| {
            let draw = || Tensor::rand([1], (Kind::Float, Device::Cpu)).double_value(&[0]);
            // Simulates a thread that draws while this one is between two stages.
            static N_RUNS: Mutex<u32> = Mutex::new(0);
            let mut n_runs = N_RUNS.lock().unwrap_or_else(PoisonError::into_inner);
            *n_runs += 1;
            if *n_runs == 1 {
                std::thread::spawn(draw).join().unwrap();
            }
            second(x)
        }),
    );
    let y = sequential(FIRST_STAGE, stages, &chain.x).unwrap();
    let error = y.square().mean(Kind::Float).f_backward().unwrap_err().to_string();
    assert!(error.contains("other random numbers"), "{error}");
}

#[test]
fn each_thread_has_its_activation_mode() {
    let _turn = turn();
    let expected = chain_without_dropout();
    let modes =
        [None, Some(ActivationMode::Keep), Some(ActivationMode::Recompute), Some(ActivationMode::Spill)]
            .map(Some);
    let together = Arc::new(Barrier::new(modes.len()));
    let threads = modes.into_iter().flatten().map(|mode| {
        let together = Arc::clone(&together);
        std::thread::spawn(move || {
            let _scope = mode.map(|mode| scope(mode, 0));
            together.wait();
            (0..5).map(|_| chain_without_dropout()).collect::<Vec<_>>()
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        assert!(thread.join().unwrap().iter().all(|gradient| *gradient == expected));
    }
    assert_eq!(spilled_bytes().live_bytes, 0);
}

fn chain_without_dropout() -> Tensor {
    let weight = chirp(&[WIDTH, WIDTH], 0.2).set_requires_grad(true);
    let stages = (0..4).map(|_| -> Stage<Error> {
        let weight = weight.shallow_clone();
        Box::new(move |x| Ok(x.f_matmul(&weight)?.f_tanh()?))
    });
    let y = sequential(FIRST_STAGE, stages.collect(), &chirp(&[ROWS, WIDTH], 0.1)).unwrap();
    y.square().mean(Kind::Float).backward();
    weight.grad()
}

#[test]
fn the_innermost_scope_decides_and_outside_of_scopes_nothing_moves() {
    let _turn = turn();
    let live_bytes_after_forward = || {
        let x = chirp(&[1000], 0.0).set_requires_grad(true);
        let y = (&x * 2.0).square();
        let live_bytes = spilled_bytes().live_bytes;
        drop(y);
        live_bytes
    };
    let _outer = scope(ActivationMode::Spill, 0);
    let other = scope(ActivationMode::Keep, 0);
    assert_eq!(live_bytes_after_forward(), 0);
    drop(other);
    assert!(live_bytes_after_forward() >= 4000);
    drop(_outer);
    assert_eq!(live_bytes_after_forward(), 0);
}

#[test]
fn a_storage_is_spilled_once_until_it_is_written() {
    let _turn = turn();
    let _scope = scope(ActivationMode::Spill, 4000);
    let w = chirp(&[1000], 0.0).set_requires_grad(true);
    let x = chirp(&[1000], 1.0);
    let live_bytes = |n: u64| assert_eq!(spilled_bytes().live_bytes, n * 4000);
    let mut saved = &x * 2.0;
    // Views of one storage, one of them small, and the parameter itself.
    let a = &w * &saved;
    let b = &w.view([10, 100]) * &saved.view([10, 100]);
    let c = &w.narrow(0, 0, 10) * &saved.narrow(0, 0, 10);
    live_bytes(1);
    let _ = saved.fill_(3.0);
    let d = &w * &saved;
    live_bytes(2);
    drop(saved);
    assert!((a.sum(Kind::Float)).f_backward().is_err(), "what was saved before the write is gone");
    d.sum(Kind::Float).backward();
    assert_eq!(w.grad().double_value(&[7]), 3.0);
    drop((a, b, c, d));
    live_bytes(0);
}

#[test]
fn parameters_and_the_input_of_a_chain_are_not_spilled() {
    let _turn = turn();
    let _scope = scope(ActivationMode::Spill, 0);
    let weight = chirp(&[WIDTH, WIDTH], 0.0).set_requires_grad(true);
    let shared = weight.shallow_clone();
    let stage: Stage<Error> = Box::new(move |x| Ok(x.f_matmul(&shared.f_transpose(0, 1)?)?));
    let y = sequential(FIRST_STAGE, vec![stage], &chirp(&[ROWS, WIDTH], 1.0)).unwrap();
    assert_eq!(spilled_bytes().live_bytes, 0);
    let y = y.square();
    assert_eq!(spilled_bytes().live_bytes, 4 * (ROWS * WIDTH) as u64);
    y.sum(Kind::Float).backward();
    assert!(weight.grad().abs().max().double_value(&[]) > 0.0);
}

#[test]
fn spilled_tensors_serve_a_second_backward() {
    let _turn = turn();
    let _scope = scope(ActivationMode::Spill, 0);
    let w = chirp(&[1000], 0.0).set_requires_grad(true);
    let loss = (&w * 2.0).square().sum(Kind::Float);
    for keep_graph in [true, false] {
        let gradient = &Tensor::f_run_backward(&[&loss], &[&w], keep_graph, false).unwrap()[0];
        assert_eq!(*gradient, &w * 8.0);
    }
}

#[test]
fn the_spill_file_does_not_grow_from_step_to_step() {
    let _turn = turn();
    let _scope = scope(ActivationMode::Spill, 0);
    let chain = Chain::new(ROWS, WIDTH);
    let file_bytes = || {
        let y = sequential(FIRST_STAGE, chain.stages(), &chain.x).unwrap();
        let file_bytes = spilled_bytes().file_bytes;
        y.square().mean(Kind::Float).backward();
        assert_eq!(spilled_bytes().live_bytes, 0);
        file_bytes
    };
    let first = file_bytes();
    assert!(first > 0);
    for _ in 1..50 {
        assert_eq!(file_bytes(), first);
    }
}

#[test]
fn a_spill_folder_that_cannot_hold_a_file_is_refused_by_name() {
    let there = tempfile::tempdir().unwrap();
    let nowhere = there.path().join("nowhere").display().to_string();
    for folder in [nowhere.as_str(), "/proc/version"] {
        let options = Options {
            modes: ActivationMode::Spill.into(),
            spill_folder: folder.into(),
            ..Options::default()
        };
        let error = enter(&options).unwrap_err();
        assert!(matches!(error, Error::SpillFolder { .. }) && error.to_string().contains(folder), "{error}");
    }
}

#[test]
fn a_folder_in_memory_and_one_that_is_missing_are_no_spill_folders() {
    let on_disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    check_spill_folder(on_disk.path()).unwrap();
    assert_eq!(std::fs::read_dir(on_disk.path()).unwrap().count(), 0, "the check leaves nothing");
    let in_memory = check_spill_folder(Path::new("/dev/shm"));
    assert!(matches!(in_memory, Err(Error::SpillFolderInMemory { .. })));
    let missing = check_spill_folder(&on_disk.path().join("missing"));
    assert!(matches!(missing, Err(Error::SpillFolder { .. })));
}

#[test]
fn a_spill_folder_that_was_removed_is_counted_as_a_failed_spill() {
    let _turn = turn();
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        modes: ActivationMode::Spill.into(),
        spill_folder: folder.path().into(),
        ..Options::default()
    };
    drop(enter(&options).unwrap());
    let before = n_failed_spills();
    folder.close().unwrap();
    assert!(enter(&options).is_err());
    assert!(n_failed_spills() > before);
}
