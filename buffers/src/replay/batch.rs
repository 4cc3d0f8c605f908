//! What sampling writes into.

use crate::error::Result;
use crate::frames::View;
use crate::replay::sampler::Drawn;

/// The memory that sampling writes a batch into. `TensorBatch` holds it in tensors for a learner,
/// [`ArrayBatch`](crate::replay::ArrayBatch) in plain arrays for programs without libtorch.
///
/// A replay calls the methods in this order and reuses what the batch held before:
///
/// ```text
/// draw_into     reset ──> columns to draw into ──> keep_drawn
/// gather_into   take_drawn ──> windows_mut, once per view ──> put_columns
/// ```
pub trait Batch {
    /// Takes the columns of the last batch, to draw into, and prepares for `n_views` views.
    fn reset(&mut self, n_views: usize) -> Drawn;

    /// Keeps the drawn columns until their observations are gathered.
    fn keep_drawn(&mut self, drawn: Drawn);

    /// Takes the columns that [`Self::keep_drawn`] kept.
    fn take_drawn(&mut self) -> Drawn;

    /// The `n × length × width` numbers of the windows of view number `index`, to be written: those of the observations
    /// and those of the observations to bootstrap from.
    ///
    /// # Errors
    /// If the memory is refused.
    fn windows_mut(&mut self, index: usize, view: &View, n: usize) -> Result<[&mut [f32]; 2]>;

    /// Puts the drawn columns beside the gathered observations. The batch is then complete.
    ///
    /// # Errors
    /// If the memory is refused.
    fn put_columns(&mut self, drawn: Drawn) -> Result<()>;
}
