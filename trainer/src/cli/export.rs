//! `plimsoll export`.

use std::io;
use std::path::PathBuf;

use clap::Args;

use crate::atomic_file::{replace, write_aside};
use crate::console::{print, say};
use crate::error::{Error, Result};
use crate::export::{TORCH_MODULE, TORCH_MODULE_NAME};
use crate::run::checkpoint::{self, LAST_FILE, WEIGHTS_FILE};
use crate::run::folder::RunFolder;
use crate::run::tensor_file::TensorFile;

/// Export a run's weights with the PyTorch module that computes the same action values.
///
/// Writes weights.safetensors (the weights that the report and `evaluate` judge: those of the best validation),
/// last.safetensors (the last ones) and plimsoll_torch.py, which needs PyTorch alone. The files of weights say which
/// network they are, the order of its inputs and of its actions, and how the numbers are scaled.
///
/// ONNX and TorchScript are not written, because libtorch has no exporter: PyTorch writes both from the module, by
/// torch.onnx.export and torch.jit.trace.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plimsoll export --torch runs/btc serve\n  python3 serve/plimsoll_torch.py \
                        serve/weights.safetensors"
)]
pub(super) struct ExportArgs {
    /// For PyTorch, the one form that there is.
    #[arg(long, required = true)]
    torch: bool,
    /// The run's folder.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The folder to write to, which is created if needed.
    #[arg(value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &ExportArgs) -> Result<()> {
    let saved = checkpoint::require(&RunFolder::open(&args.run)?.checkpoint(), &args.run)?;
    let names = [WEIGHTS_FILE, LAST_FILE];
    // Nothing is written where a file is missing or damaged.
    let counters = checkpoint::load_counters(&saved)?;
    for name in names {
        TensorFile::open(&saved.join(name), counters.sum_of(&saved, name)?)?;
    }
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    for name in names {
        let (from, to) = (saved.join(name), args.out.join(name));
        let mut source = std::fs::File::open(&from).map_err(Error::io(&from))?;
        replace(&to, |mut file| io::copy(&mut source, &mut file).map(|_| ())).map_err(Error::io(&to))?;
    }
    write_aside(&args.out.join(TORCH_MODULE_NAME), TORCH_MODULE.as_bytes())?;
    say(&format!("{TORCH_MODULE_NAME}, {WEIGHTS_FILE} and {LAST_FILE} in {}", args.out.display()));
    print(&format!("{}\n", args.out.join(WEIGHTS_FILE).display()));
    Ok(())
}
