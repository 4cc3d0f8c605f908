//! Paired runs: this program and a peer take turns on the same work, in one run on one machine.

use std::path::Path;
use std::process::Command;

use serde::Serialize;
use serde_json::Value;

use crate::bench::median;
use crate::console::say;
use crate::error::{Error, Result};

/// Turns of each side.
const TURNS: usize = 3;

/// One measure, both sides.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// What was measured.
    pub name: String,
    /// This program's median rate, per second.
    pub ours: f64,
    /// The peer's median rate, per second.
    pub theirs: f64,
}

/// The script of the learner and of acting.
const LEARNER_SCRIPT: &str = "pytorch_learner.py";
/// The script of the CartPole run.
const CARTPOLE_SCRIPT: &str = "sb3_cartpole.py";

/// Refuses a folder that does not hold the peers' scripts, before anything is measured.
///
/// # Errors
/// [`Error::Config`] with the script that is missing.
pub(super) fn expect_scripts(folder: &Path) -> Result<()> {
    let Some(missing) =
        [LEARNER_SCRIPT, CARTPOLE_SCRIPT].into_iter().find(|name| !folder.join(name).is_file())
    else {
        return Ok(());
    };
    let problem = format!(
        "there is no {}: `bench train --help` says what it must print",
        folder.join(missing).display()
    );
    Err(Error::Config { key: "--peers".to_owned(), problem })
}

/// What this program did in one turn, per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnTurn {
    /// Samples through the learner of the full networks.
    pub(super) learner: f64,
    /// Observations acted on by 1, 16 and 256 environments.
    pub(super) acting: [f64; 3],
    /// Steps of a CartPole run.
    pub(super) cartpole: f64,
}

/// Takes turns with the peers' scripts in `folder`: `own_turn` measures this program.
///
/// # Errors
/// Where a script fails or is not there.
pub(super) fn run(
    folder: &Path,
    python: &Path,
    mut own_turn: impl FnMut() -> Result<OwnTurn>,
) -> Result<Vec<Pair>> {
    let threads = tch::get_num_threads().to_string();
    let (mut learner, mut act, mut cart): (Sides, [Sides; 3], Sides) = Default::default();
    for turn in 0..TURNS {
        say(&format!("turn {} of {TURNS}: ours", turn + 1));
        let own = own_turn()?;
        learner.ours.push(own.learner);
        act.iter_mut().zip(own.acting).for_each(|(sides, rate)| sides.ours.push(rate));
        cart.ours.push(own.cartpole);
        say(&format!("turn {} of {TURNS}: the peers", turn + 1));
        let torch = script(python, &folder.join(LEARNER_SCRIPT), &["--threads", &threads, "--batch", "128"])?;
        learner.theirs.push(number(&torch, "learner_samples_per_second"));
        for (i, n) in ["1", "16", "256"].into_iter().enumerate() {
            act[i].theirs.push(number(&torch, &format!("act_{n}_per_second")));
        }
        let sb3 = script(python, &folder.join(CARTPOLE_SCRIPT), &["--threads", &threads, "--steps", "8000"])?;
        cart.theirs.push(number(&sb3, "steps_per_second"));
    }
    let [one, sixteen, many] = act;
    Ok(vec![
        learner.pair("full learner, batch 128, samples/s (PyTorch eager)"),
        one.pair("full acting, 1, observations/s (PyTorch eager)"),
        sixteen.pair("full acting, 16, observations/s (PyTorch eager)"),
        many.pair("full acting, 256, observations/s (PyTorch eager)"),
        cart.pair("CartPole, steps/s (Stable-Baselines3)"),
    ])
}

/// The pairs as a table.
#[must_use]
pub fn table(pairs: &[Pair]) -> String {
    let mut text =
        format!("{:<52} {:>10} {:>10} {:>7}\n", "paired, medians of turns", "ours", "theirs", "ratio");
    for pair in pairs {
        text.push_str(&format!(
            "{:<52} {:>10.1} {:>10.1} {:>7.2}\n",
            pair.name,
            pair.ours,
            pair.theirs,
            pair.ours / pair.theirs
        ));
    }
    text
}

#[derive(Debug, Default)]
struct Sides {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Sides {
    fn pair(mut self, name: &str) -> Pair {
        Pair { name: name.to_owned(), ours: median(&mut self.ours), theirs: median(&mut self.theirs) }
    }
}

fn number(json: &Value, key: &str) -> f64 {
    json[key].as_f64().unwrap_or(f64::NAN)
}

/// Runs a script and reads its last line as JSON.
fn script(python: &Path, script: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new(python).arg(script).args(arguments).output().map_err(Error::io(python))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let problem = format!("printed no JSON; it said: {}", said.lines().last().unwrap_or("nothing"));
        Error::File { path: script.to_path_buf(), problem }
    })
}
