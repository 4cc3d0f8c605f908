//! Priorities with their sum and their minimum: a tree with sixteen children per node.
//!
//! ```text
//! inner[1]  [ ends, sums, minima of 16 nodes ]                 one node: the root
//! inner[0]  [ ends, sums, minima of 16 blocks ] [ … ] …        ends of the quarters: four children each
//! blocks    [ 16 priorities ] [ 16 ] [ 16 ] …                  a cache line each
//! ```
//!
//! The tree has the shape of 16^depth leaves. Blocks past the capacity are not stored, and those past the leaves that were
//! set are not allocated: the tree grows by 65,536 leaves at a time, which moves nothing.
//!
//! A leaf is an f32. A priority is rounded to nearest, with a relative error of at most 2⁻²⁴ (6e-8). Priorities outside
//! the range of f32 become its limits, 1.2e-38 or 3.4e38, so that a priority above zero never becomes zero or infinite.
//! Sums are f64.
//!
//! A sum is recomputed from all children whenever one of them changes, left to right within each quarter and then over the
//! quarters; it is never updated by a difference. So it depends on the leaves alone and not on their history, and it does
//! not drift. A leaf of priority zero is never drawn, because the first end above a mass belongs to a quarter, and in it
//! to a child, above zero.
//!
//! The batched calls go through the tree level by level, so that the memory latencies of the lookups overlap, and an
//! ancestor that several leaves share is recomputed once.

use std::hint::black_box;

use std::fmt;

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Result;
use crate::replay::segments::Segments;

/// Children per node.
const WIDTH: usize = 16;
/// Children per quarter, and quarters per node.
const QUARTER: usize = 4;
/// Leaves by which a tree grows.
pub(super) const GROWTH: usize = 1 << GROWTH_SHIFT;
const GROWTH_SHIFT: u32 = 16;
/// Blocks by which a tree grows, as a power of two.
const BLOCKS_SHIFT: u32 = GROWTH_SHIFT - WIDTH.ilog2();

/// Sixteen neighbouring leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(64))]
struct Block([f32; WIDTH]);

/// The sums and minima of sixteen neighbouring children.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(align(32))]
struct Node {
    /// Where each quarter ends when they are laid side by side.
    ends: [f64; QUARTER],
    sums: [f64; WIDTH],
    minima: [f32; WIDTH],
}

/// The sum of some leaves and their least priority above zero, which is infinite if there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Totals {
    sum: f64,
    minimum: f32,
}

/// Priorities with their sum and their minimum.
#[derive(Debug, Clone)]
pub struct SumTree {
    capacity: usize,
    blocks: Segments<Block>,
    /// From the nodes over the blocks to the root.
    inner: Vec<Segments<Node>>,
}

impl PartialEq for SumTree {
    /// Trees are equal if their leaves are, however many of them are allocated.
    fn eq(&self, other: &Self) -> bool {
        let n = self.blocks.len().max(other.blocks.len());
        self.capacity == other.capacity
            && (0..n).all(|block| self.blocks.get(block) == other.blocks.get(block))
    }
}

impl SumTree {
    /// A tree over `capacity` leaves, all of priority 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let n_blocks = n_blocks(capacity);
        let levels = level_shifts().zip(level_sizes(n_blocks));
        let inner = levels.map(|(shift, n_nodes)| Segments::new(shift, n_nodes, Node::EMPTY)).collect();
        let blocks = Segments::new(BLOCKS_SHIFT, n_blocks, Block([0.0; WIDTH]));
        let mut tree = Self { capacity, blocks, inner };
        tree.grow_or_panic(1);
        tree
    }

    /// Bytes of a tree over `capacity` leaves of which the first `n_leaves` are in use, about 4.94 per leaf in a large tree.
    #[must_use]
    pub fn planned_bytes(capacity: usize, n_leaves: usize) -> u64 {
        let n_blocks = n_blocks(capacity);
        let mut n_used = n_leaves.clamp(1, capacity.max(1)).div_ceil(WIDTH);
        let mut bytes = Segments::<Block>::planned_len(BLOCKS_SHIFT, n_blocks, n_used) * size_of::<Block>();
        for (shift, n_nodes) in level_shifts().zip(level_sizes(n_blocks)) {
            n_used = n_used.div_ceil(WIDTH);
            bytes += Segments::<Node>::planned_len(shift, n_nodes, n_used) * size_of::<Node>();
        }
        bytes as u64
    }

    /// Allocates the first `n_leaves` leaves, so that setting them allocates nothing.
    ///
    /// # Errors
    /// [`memsys::Error::Refused`] if the system gives no memory.
    pub fn reserve(&mut self, n_leaves: usize) -> Result<()> {
        let mut n = n_leaves.min(self.capacity).div_ceil(WIDTH);
        if n <= self.blocks.len() {
            return Ok(());
        }
        // A leaf is there once its block is, so the blocks come last.
        let n_blocks = n;
        for level in &mut self.inner {
            n = n.div_ceil(WIDTH);
            level.grow(n)?;
        }
        self.blocks.grow(n_blocks)
    }

    /// Number of leaves.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the priority of a leaf, rounded to f32 and above zero if `value` is.
    ///
    /// # Panics
    /// If `value` is negative or not finite, `leaf` is out of range, or it was not [reserved](Self::reserve) and the system
    /// gives no memory.
    pub fn set(&mut self, leaf: usize, value: f64) {
        self.put(leaf, value);
        let mut child = leaf / WIDTH;
        let mut totals = self.blocks[child].totals();
        for level in &mut self.inner {
            let node = &mut level[child / WIDTH];
            node.put(child % WIDTH, totals);
            totals = node.refresh();
            child /= WIDTH;
        }
    }

    /// Sets the priorities of many leaves. A leaf that is named twice keeps the later value. The result equals that of
    /// [`Self::set`] one by one, to the bit. Ascending leaves are the fastest, because a shared ancestor is recomputed once.
    ///
    /// # Panics
    /// As [`Self::set`], and if there are not as many values as leaves.
    pub fn set_many(&mut self, leaves: &[usize], values: &[f64]) {
        assert_eq!(leaves.len(), values.len(), "a value for each leaf");
        for (leaf, value) in leaves.iter().zip(values) {
            self.put(*leaf, *value);
        }
        self.refresh(leaves.iter().map(|leaf| leaf / WIDTH));
    }

    /// The priority of a leaf, or 0 if it was never set.
    ///
    /// # Panics
    /// If `leaf` is out of range.
    #[must_use]
    pub fn get(&self, leaf: usize) -> f64 {
        assert!(leaf < self.capacity, "leaf {leaf} of {}", self.capacity);
        f64::from(self.blocks.get(leaf / WIDTH).0[leaf % WIDTH])
    }

    /// The sum of all leaves.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.root().totals().sum
    }

    /// The least priority above zero, or infinity if there is none.
    #[must_use]
    pub fn minimum(&self) -> f64 {
        f64::from(self.root().totals().minimum)
    }

    /// The leaf that contains `mass` in `[0, sum)` when the leaves are laid side by side. If rounding puts `mass` past the
    /// end, it is the last leaf above zero; if all leaves are zero, it is leaf 0.
    ///
    /// # Panics
    /// If `mass` is negative or not a number.
    #[must_use]
    pub fn find(&self, mass: f64) -> usize {
        assert!(mass >= 0.0, "a mass of {mass}");
        let mut at = (0, mass);
        for level in self.inner.iter().rev() {
            at = level[at.0].descend(at);
        }
        self.blocks[at.0].descend(at).0
    }

    /// [`Self::find`] for each mass, in order, into `leaves`. It overwrites the masses. Ascending masses are the fastest.
    ///
    /// # Panics
    /// As [`Self::find`].
    pub fn find_many(&self, masses: &mut [f64], leaves: &mut Vec<usize>) {
        assert!(masses.iter().all(|mass| *mass >= 0.0), "a negative mass");
        leaves.clear();
        leaves.resize(masses.len(), 0);
        for level in self.inner.iter().rev() {
            for (node, mass) in leaves.iter_mut().zip(masses.iter_mut()) {
                (*node, *mass) = level[*node].descend((*node, *mass));
            }
        }
        // Blocks lie scattered: touching all of them before any is used lets the memory latencies overlap.
        black_box(leaves.iter().fold(0, |bits, block| bits | self.blocks[*block].0[0].to_bits()));
        for (leaf, mass) in leaves.iter_mut().zip(masses.iter()) {
            *leaf = self.blocks[*leaf].descend((*leaf, *mass)).0;
        }
    }

    /// Bytes of memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.bytes() + self.inner.iter().map(Segments::bytes).sum::<u64>()
    }

    fn grow_or_panic(&mut self, n_leaves: usize) {
        self.reserve(n_leaves).unwrap_or_else(|refused| panic!("{refused}"));
    }

    fn put(&mut self, leaf: usize, value: f64) {
        assert!(value.is_finite() && value >= 0.0, "a priority of {value}");
        assert!(leaf < self.capacity, "leaf {leaf} of {}", self.capacity);
        if leaf / WIDTH >= self.blocks.len() {
            self.grow_or_panic(leaf + 1);
        }
        self.blocks[leaf / WIDTH].0[leaf % WIDTH] = rounded(value);
    }

    /// Recomputes the ancestors of `blocks`. Equal blocks that follow each other count once.
    fn refresh(&mut self, blocks: impl Iterator<Item = usize> + Clone) {
        for block in changes(blocks.clone()) {
            self.inner[0][block / WIDTH].put(block % WIDTH, self.blocks[block].totals());
        }
        let mut shift = WIDTH.ilog2();
        for level in 0..self.inner.len() {
            let (below, above) = self.inner.split_at_mut(level + 1);
            let mut above = above.first_mut();
            for node in changes(blocks.clone().map(|block| block >> shift)) {
                let totals = below[level][node].refresh();
                if let Some(above) = &mut above {
                    above[node / WIDTH].put(node % WIDTH, totals);
                }
            }
            shift += WIDTH.ilog2();
        }
    }

    fn root(&self) -> &Node {
        &self.inner[self.inner.len() - 1][0]
    }
}

impl Block {
    fn totals(&self) -> Totals {
        let minimum = least(self.0.map(|value| if value > 0.0 { value } else { f32::INFINITY }));
        Totals { sum: quarter_ends(&self.sums())[QUARTER - 1], minimum }
    }

    fn descend(&self, at: (usize, f64)) -> (usize, f64) {
        descend(&quarter_ends(&self.sums()), |quarter| quarter_of(&self.0, quarter).map(f64::from), at)
    }

    fn sums(&self) -> [f64; WIDTH] {
        self.0.map(f64::from)
    }
}

impl Node {
    const EMPTY: Self = Self { ends: [0.0; QUARTER], sums: [0.0; WIDTH], minima: [f32::INFINITY; WIDTH] };

    /// Writes the totals of a child. [`Self::refresh`] must follow.
    fn put(&mut self, child: usize, totals: Totals) {
        self.sums[child] = totals.sum;
        self.minima[child] = totals.minimum;
    }

    fn refresh(&mut self) -> Totals {
        self.ends = quarter_ends(&self.sums);
        self.totals()
    }

    fn totals(&self) -> Totals {
        Totals { sum: self.ends[QUARTER - 1], minimum: least(self.minima) }
    }

    fn descend(&self, at: (usize, f64)) -> (usize, f64) {
        descend(&self.ends, |quarter| quarter_of(&self.sums, quarter), at)
    }
}

/// The levels over the blocks grow with them: this many nodes at a time, as a power of two.
fn level_shifts() -> impl Iterator<Item = u32> {
    let below = |shift: &u32| Some(shift.saturating_sub(WIDTH.ilog2()));
    std::iter::successors(Some(BLOCKS_SHIFT.saturating_sub(WIDTH.ilog2())), below)
}

fn n_blocks(capacity: usize) -> usize {
    capacity.div_ceil(WIDTH).max(1)
}

/// Number of nodes of each level over `n_blocks` blocks, up to the root.
fn level_sizes(n_blocks: usize) -> impl Iterator<Item = usize> {
    let first = n_blocks.div_ceil(WIDTH);
    std::iter::successors(Some(first), |n_nodes| (*n_nodes > 1).then(|| n_nodes.div_ceil(WIDTH)))
}

/// The nearest f32. For a number above zero it is above zero and finite.
fn rounded(value: f64) -> f32 {
    if value > 0.0 { (value as f32).clamp(f32::MIN_POSITIVE, f32::MAX) } else { 0.0 }
}

/// Where each of four parts ends when they are laid side by side.
fn ends(sums: &[f64; QUARTER]) -> [f64; QUARTER] {
    let mut end = 0.0;
    sums.map(|sum| {
        end += sum;
        end
    })
}

/// Where each quarter of sixteen parts ends when they are laid side by side.
fn quarter_ends(sums: &[f64; WIDTH]) -> [f64; QUARTER] {
    ends(&std::array::from_fn(|quarter| ends(&quarter_of(sums, quarter))[QUARTER - 1]))
}

fn quarter_of<T: Copy>(parts: &[T; WIDTH], quarter: usize) -> [T; QUARTER] {
    parts.as_chunks().0[quarter]
}

fn least(mut minima: [f32; WIDTH]) -> f32 {
    let mut half = WIDTH / 2;
    while half > 0 {
        for i in 0..half {
            minima[i] = if minima[i] < minima[i + half] { minima[i] } else { minima[i + half] };
        }
        half /= 2;
    }
    minima[0]
}

/// The child that contains a mass within a node, and the mass within that child. For a mass past the end it is the last
/// child above zero, with a mass past its end.
#[inline]
fn descend(
    quarter_ends: &[f64; QUARTER],
    sums: impl Fn(usize) -> [f64; QUARTER],
    (node, mass): (usize, f64),
) -> (usize, f64) {
    let (quarter, mass) = pass(quarter_ends, mass);
    if quarter < QUARTER {
        let (part, mass) = pass(&ends(&sums(quarter)), mass);
        if part < QUARTER {
            return (node * WIDTH + quarter * QUARTER + part, mass);
        }
    }
    let last_in = |quarter: usize| sums(quarter).iter().rposition(|sum| *sum > 0.0);
    let last =
        (0..QUARTER).take(quarter + 1).rev().find_map(|quarter| Some(quarter * QUARTER + last_in(quarter)?));
    (node * WIDTH + last.unwrap_or(0), f64::INFINITY)
}

/// The number of parts before `mass`, and the mass without them. It has no branch, because it could not be predicted.
#[inline]
fn pass(ends: &[f64; QUARTER], mass: f64) -> (usize, f64) {
    let n = ends.iter().fold(0usize, |n, end| n.wrapping_add(usize::from(*end <= mass)));
    let starts = [0.0, ends[0], ends[1], ends[2], ends[3]];
    (n, mass - starts[n])
}

/// The numbers without those that equal the one before.
fn changes(numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = usize> {
    let mut last = None;
    numbers.filter(move |number| last.replace(*number) != Some(*number))
}

/// The saved form of a tree: the leaves up to the last one above zero.
#[derive(Serialize)]
#[serde(rename = "SumTree")]
struct TreeSnapshot<'a> {
    capacity: usize,
    leaves: Leaves<'a>,
}

/// The first `n` leaves of blocks.
struct Leaves<'a> {
    blocks: &'a Segments<Block>,
    n: usize,
}

impl Serialize for Leaves<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.n))?;
        let leaves = self.blocks.iter().flat_map(|block| &block.0).take(self.n);
        leaves.into_iter().try_for_each(|leaf| sequence.serialize_element(leaf))?;
        sequence.end()
    }
}

impl Serialize for SumTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let in_block = |block: &Block| block.0.iter().rposition(|leaf| *leaf > 0.0);
        let last = (0..self.blocks.len()).rev().find_map(|at| Some(at * WIDTH + in_block(&self.blocks[at])?));
        let leaves = Leaves { blocks: &self.blocks, n: last.map_or(0, |last| last + 1) };
        TreeSnapshot { capacity: self.capacity, leaves }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SumTree {
    /// Reads the leaves one by one into the tree that they make.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct AsTree;
        impl<'de> Visitor<'de> for AsTree {
            type Value = SumTree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the priorities of a tree")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<SumTree, A::Error> {
                let missing = || serde::de::Error::custom("saved priorities that end early");
                let capacity: usize = seq.next_element()?.ok_or_else(missing)?;
                if capacity == 0 {
                    return Err(serde::de::Error::custom("saved priorities of no leaf"));
                }
                let mut tree = SumTree::new(capacity);
                seq.next_element_seed(IntoLeaves(&mut tree))?.ok_or_else(missing)?;
                Ok(tree)
            }
        }
        deserializer.deserialize_struct("SumTree", &["capacity", "leaves"], AsTree)
    }
}

/// Sets the first leaves of a tree.
struct IntoLeaves<'a>(&'a mut SumTree);

impl<'de> DeserializeSeed<'de> for IntoLeaves<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for IntoLeaves<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("priorities")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        let tree = self.0;
        let mut n = 0;
        while let Some(leaf) = seq.next_element::<f32>()? {
            if n == tree.capacity || !(leaf.is_finite() && leaf >= 0.0) {
                return Err(serde::de::Error::custom("saved priorities that belong to no tree"));
            }
            tree.reserve(n + 1).map_err(serde::de::Error::custom)?;
            tree.blocks[n / WIDTH].0[n % WIDTH] = leaf;
            n += 1;
        }
        tree.refresh(0..n.div_ceil(WIDTH));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
