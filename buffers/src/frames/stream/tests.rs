use super::*;
use crate::store::{ChunkWriter, Durability};
use proptest::prelude::*;

/// The bytes of a row of any kind: some repeat for a while, others do not.
fn row(kind: RowKind, width: usize, position: usize) -> Vec<u8> {
    (0..width * kind.number_bytes())
        .map(|at| if at % 3 == 0 { (position / 5) as u8 } else { (position * 31 + at * 7) as u8 })
        .collect()
}

/// A stream, and its rows in a plain vector.
struct Both {
    stream: FrameStream,
    plain: Vec<Vec<u8>>,
}

impl Both {
    fn new(kind: RowKind, width: usize, cache: Arc<ChunkCache>) -> Self {
        Self { stream: FrameStream::typed(kind, width).with_cache(cache), plain: Vec::new() }
    }

    fn append(&mut self, n: usize) {
        for _ in 0..n {
            let row = row(self.stream.kind(), self.stream.width(), self.plain.len());
            assert_eq!(self.stream.append_bytes(&row), self.plain.len());
            self.plain.push(row);
        }
    }

    /// Compares one window, which `pick` chooses, if a whole window is left.
    fn check(&self, length: usize, stride: usize, pick: usize) {
        let first = self.stream.first_row() + (length - 1) * stride;
        if first >= self.plain.len() {
            return;
        }
        let end = first + pick % (self.plain.len() - first);
        let naive = |end: usize| -> Vec<u8> {
            let start = end - (length - 1) * stride;
            (0..length).flat_map(|i| self.plain[start + i * stride].clone()).collect()
        };
        // A second window that ends near, before or after.
        let near = (end + pick % 19).saturating_sub(9).clamp(first, self.plain.len() - 1);
        let n_bytes = length * self.stream.shape.row_bytes();
        let (mut bytes, mut near_bytes) = (vec![0; n_bytes], vec![0; n_bytes]);
        let windows = [&mut bytes[..], &mut near_bytes[..]];
        self.stream.copy_windows_bytes([end, near], length, stride, windows).unwrap();
        assert_eq!((bytes, near_bytes), (naive(end), naive(near)));
        let naive = naive(end);
        let mut bytes = vec![0; n_bytes];
        self.stream.copy_window_bytes(end, length, stride, &mut bytes).unwrap();
        assert_eq!(bytes, naive);
        let (mut wide, mut naive_wide) =
            (vec![0f32; length * self.stream.width()], vec![0f32; length * self.stream.width()]);
        self.stream.copy_window(end, length, stride, &mut wide);
        self.stream.kind().widen(&naive, &mut naive_wide);
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&wide), bits(&naive_wide));
    }
}

#[derive(Debug, Clone)]
enum Move {
    Append(usize),
    Compress(usize),
    Map(usize),
    Evict(usize),
    Clone,
    Save,
    Reopen,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        (1usize..700).prop_map(Move::Append),
        any::<usize>().prop_map(Move::Compress),
        any::<usize>().prop_map(Move::Map),
        any::<usize>().prop_map(Move::Evict),
        Just(Move::Clone),
        Just(Move::Save),
        Just(Move::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a_window_is_what_a_plain_copy_gives_over_all_tiers(
        kind in 0usize..4, width in 1usize..9, moves in proptest::collection::vec(moves(), 1..14),
        windows in proptest::collection::vec((1usize..70, 1usize..8, any::<usize>()), 6), limit in 0u64..20_000,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        let mut writer = Some(ChunkWriter::open(&path).unwrap().0);
        let cache = Arc::new(ChunkCache::new(limit));
        let mut both = Both::new(RowKind::ALL[kind], width, Arc::clone(&cache));
        both.append(300);
        for one in moves {
            let up_to = |pick: usize| pick % (both.plain.len() + 100);
            match one {
                Move::Append(n) => both.append(n),
                Move::Compress(pick) => {
                    let held = both.stream.bytes();
                    let given = both.stream.compress_before(up_to(pick));
                    prop_assert!(both.stream.bytes() <= held - given + 12 * 64);
                }
                Move::Map(pick) => {
                    let held = both.stream.bytes();
                    let given = both.stream.map_before(up_to(pick), writer.as_mut().unwrap(), 3, 9).unwrap();
                    prop_assert!(both.stream.bytes() <= held - given);
                }
                Move::Evict(pick) => both.stream.evict_before(up_to(pick) / 2),
                Move::Clone => {
                    let copy = both.stream.clone();
                    prop_assert!(copy == both.stream);
                    both.stream = copy;
                }
                Move::Save => {
                    let saved = postcard::to_stdvec(&both.stream).unwrap();
                    let copy: FrameStream = postcard::from_bytes(&saved).unwrap();
                    prop_assert!(copy == both.stream);
                    both.stream = copy.with_cache(Arc::clone(&cache));
                }
                Move::Reopen => {
                    let mut gone = writer.take().unwrap();
                    both.stream.file_all(&mut gone, 3, 9).unwrap();
                    gone.commit(Durability::Process).unwrap();
                    let reader = ChunkReader::open(&path).unwrap();
                    let first = both.stream.first_row();
                    if let Some(restored) = FrameStream::restore(&reader, 3).unwrap() {
                        prop_assert!(restored.lost_tail.is_none());
                        let mut stream = restored.stream.with_cache(Arc::clone(&cache));
                        stream.evict_before(first);
                        prop_assert_eq!(stream.n_rows(), both.plain.len());
                        prop_assert!(stream == both.stream);
                        both.stream = stream;
                    }
                    drop(gone);
                    let (again, opened) = ChunkWriter::open(&path).unwrap();
                    prop_assert_eq!((opened.torn_bytes, opened.damages.len()), (0, 0));
                    writer = Some(again);
                }
            }
            for (length, stride, pick) in &windows {
                both.check(*length, *stride, *pick);
            }
            prop_assert!(cache.bytes() <= limit);
        }
    }
}

#[test]
fn evicted_rows_give_their_bytes_back() {
    let mut both = Both::new(RowKind::F32, 2, Arc::new(ChunkCache::new(0)));
    let chunk_rows = both.stream.chunk_rows();
    both.append(10 * chunk_rows);
    let before = both.stream.bytes();
    both.stream.evict_before(9 * chunk_rows + 5);
    assert_eq!(both.stream.bytes(), before / 10);
    assert_eq!((both.stream.n_rows(), both.stream.first_row()), (10 * chunk_rows, 9 * chunk_rows));
}

#[test]
#[should_panic(expected = "a window over evicted rows")]
fn evicted_rows_cannot_be_read() {
    let mut both = Both::new(RowKind::F32, 2, Arc::new(ChunkCache::new(0)));
    both.append(600);
    both.stream.evict_before(300);
    both.stream.copy_window(255, 1, 1, &mut [0.0; 2]);
}

#[test]
fn stacked_frames_of_u8_are_stored_once_and_compress() {
    let mut stream = FrameStream::typed(RowKind::U8, 84 * 84);
    let frame = |t: usize| -> Vec<u8> {
        let mut frame: Vec<u8> = (0..84 * 84).map(|at| if at / 84 % 12 == 0 { 87 } else { 40 }).collect();
        (0..8).for_each(|y| frame[(t % 70 + y) * 84 + t % 70..][..8].fill(236));
        frame
    };
    (0..64).for_each(|t| assert_eq!(stream.append_bytes(&frame(t)), t));
    let hot = stream.bytes();
    stream.compress_before(64);
    assert!(stream.bytes() * 20 < hot, "{} of {hot}", stream.bytes());
    assert_eq!(stream.tier_bytes().compressed, stream.bytes());
    let mut stack = vec![0u8; 4 * 84 * 84];
    stream.copy_window_bytes(33, 4, 1, &mut stack).unwrap();
    let naive = |end: usize| (end - 3..=end).flat_map(frame).collect::<Vec<u8>>();
    assert_eq!(stack, naive(33));
    let mut next = stack.clone();
    for (end, next_end) in [(33, 34), (34, 33), (40, 44), (50, 58), (50, 59), (3, 63)] {
        stream.copy_windows_bytes([end, next_end], 4, 1, [&mut stack, &mut next]).unwrap();
        assert_eq!((&stack, &next), (&naive(end), &naive(next_end)));
    }
}

#[test]
fn halves_are_kept_rounded() {
    let mut stream = FrameStream::typed(RowKind::Bf16, 3);
    (0..600).for_each(|i| {
        stream.append(&[i as f32 / 7.0, -1.0, 1e30]);
    });
    stream.compress_before(600);
    let mut out = [0f32; 3];
    stream.copy_window(100, 1, 1, &mut out);
    assert!((out[0] - 100.0 / 7.0).abs() <= 100.0 / 7.0 / 256.0 && out[1] == -1.0, "{out:?}");
    assert_eq!(stream.tier_bytes().hot, 2 * 3 * 256, "the unfinished chunk is not encoded");
}

#[test]
fn a_saved_stream_that_does_not_fit_its_rows_is_refused() {
    let mut stream = FrameStream::new(2);
    (0..700).for_each(|i| {
        stream.append(&[i as f32, 0.0]);
    });
    stream.compress_before(300);
    let saved = postcard::to_stdvec(&stream).unwrap();
    for at in 0..saved.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut broken = saved.clone();
            broken[at] = value;
            if let Ok(stream) = postcard::from_bytes::<FrameStream>(&broken) {
                assert!(stream.first_row() <= stream.n_rows());
                let rows = stream.chunks.iter().filter_map(|chunk| chunk.rows().ok());
                assert!(
                    rows.map(|rows| rows.len()).sum::<usize>() <= stream.n_rows() * stream.shape.row_bytes()
                );
            }
        }
    }
    (0..saved.len()).for_each(|n| assert!(postcard::from_bytes::<FrameStream>(&saved[..n]).is_err()));
}
