//! Writes the seed corpus, small files of every kind of row and encoding: `cargo run --example seeds seeds/read_file`.

use std::path::Path;

use buffers::store::{
    ChunkWriter, Codec, Durability, Identity, Predictor, RowKind, RowShape, Transform, codec,
};
use buffers_fuzz::input_of;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let scratch = std::env::temp_dir().join(format!("replay-seed-{}", std::process::id()));
    for kind in RowKind::ALL {
        let shuffled = Transform::ORDERS.into_iter().enumerate().map(|(i, transform)| Codec {
            transform,
            predictor: Predictor::ALL[i % Predictor::ALL.len()],
            level: [0, 1, 6][i % 3],
        });
        let packed = kind.number_bytes().is_multiple_of(4).then_some(Codec::PACKED);
        for (i, codec) in shuffled.chain(packed).enumerate() {
            let name = format!("{kind:?}-{:?}", codec.transform).to_lowercase();
            let rows = |at: usize| (at / 5) as u8;
            write(&scratch, i as u32, RowShape { kind, width: 3 }, codec, 8, rows)?;
            std::fs::write(folder.join(name), input_of(&std::fs::read(&scratch)?))?;
            std::fs::remove_file(&scratch)?;
        }
    }
    // A replay packs transitions, which are words in bytes, and columns that are constant, of both signs, or sometimes
    // zero.
    let transition = |at: usize| match at % 32 {
        0 => (at / 32) as u8,
        8 | 9 => (at * 7 / 32) as u8,
        _ => 0,
    };
    write(&scratch, 0, RowShape { kind: RowKind::U8, width: 32 }, Codec::PACKED, 8, transition)?;
    std::fs::write(folder.join("u8-pack"), input_of(&std::fs::read(&scratch)?))?;
    std::fs::remove_file(&scratch)?;
    let number = |column: usize, row: usize| match column {
        0 => 0.0,
        1 => 0.7,
        2 => (row as f32 - 6.0) / 3.0,
        _ if row.is_multiple_of(3) => 0.0,
        _ => 100.0 + row as f32,
    };
    let columns = |at: usize| number(at / 4 % 4, at / 16).to_le_bytes()[at % 4];
    write(&scratch, 1, RowShape { kind: RowKind::F32, width: 4 }, Codec::PACKED, 16, columns)?;
    std::fs::write(folder.join("f32-pack-columns"), input_of(&std::fs::read(&scratch)?))?;
    std::fs::remove_file(&scratch)?;
    // The writer appends a block of the index after 256 chunks, here of one byte each.
    let (mut writer, _) = ChunkWriter::open(&scratch)?;
    let encoded = codec::encode(Codec::STORED, RowShape { kind: RowKind::U8, width: 1 }, &[7]);
    for number in 0..256 {
        writer.append(Identity { stream: 0, number, chunk_rows: 1, stamp_millis: 1 }, &encoded)?;
    }
    writer.commit(Durability::Process)?;
    let whole = std::fs::read(&scratch)?;
    std::fs::remove_file(&scratch)?;
    // The seed holds two records and an index of them alone, so that it stays small.
    let block = whole.windows(4).rposition(|word| word == b"INDX").ok_or("no index")?;
    let mut short = whole[..4096].to_vec();
    short.extend_from_slice(&whole[4096..4096 + 2 * 80]);
    let mut index = whole[block..block + 64 + 2 * 64].to_vec();
    let index_offset = short.len() as u64;
    index[36..40].copy_from_slice(&2u32.to_le_bytes());
    index[44..48].copy_from_slice(&128u32.to_le_bytes());
    short.extend_from_slice(&index);
    short[1024 + 24..1024 + 32].copy_from_slice(&index_offset.to_le_bytes());
    std::fs::write(folder.join("index"), input_of(&short))?;
    Ok(())
}

/// Writes a file of one stream: a full chunk and one of five rows, made of the bytes that `byte` gives.
fn write(
    path: &Path,
    stream: u32,
    shape: RowShape,
    codec: Codec,
    chunk_rows: usize,
    byte: impl Fn(usize) -> u8,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut writer, _) = ChunkWriter::open(path)?;
    for (number, n_rows) in [(0, chunk_rows), (1, 5)] {
        let rows: Vec<u8> = (0..n_rows * shape.row_bytes()).map(&byte).collect();
        let encoded = codec::encode(codec, shape, &rows);
        let identity = Identity { stream, number, chunk_rows: chunk_rows as u32, stamp_millis: 1 };
        writer.append(identity, &encoded)?;
    }
    Ok(writer.commit(Durability::Process)?)
}
