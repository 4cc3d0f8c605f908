//! Weights for other programs: what a file of weights says about itself, and the network as a PyTorch module.
//!
//! Every `weights.safetensors` has the facts of [`metadata`] in its header. [`TORCH_MODULE`] builds the network from them
//! and gives the same action values. ONNX and TorchScript are not written: libtorch's C++ has no exporter of ONNX, and
//! PyTorch writes both from the module (`torch.onnx.export`, `torch.jit.trace`).

pub mod metadata;

#[cfg(test)]
mod tests;

/// The name under which the module is exported.
pub const TORCH_MODULE_NAME: &str = "plimsoll_torch.py";

/// The networks as PyTorch modules, with their loader. It needs PyTorch alone.
pub const TORCH_MODULE: &str = include_str!("plimsoll_torch.py");
