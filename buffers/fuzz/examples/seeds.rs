//! Writes the seed corpus: small files of every kind of row and encoding. `cargo run --example seeds seeds/read_file`

use std::path::Path;

use buffers_fuzz::{input_of, store};
use store::{ChunkWriter, Codec, Durability, Identity, Predictor, RowKind, RowShape, Transform, codec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("which folder?")?;
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder)?;
    let scratch = std::env::temp_dir().join(format!("replay-seed-{}", std::process::id()));
    for kind in RowKind::ALL {
        for (i, transform) in Transform::ALL.into_iter().enumerate() {
            let predictor = Predictor::ALL[i % Predictor::ALL.len()];
            let level = [0, 1, 6][i % 3];
            let shape = RowShape { kind, width: 3 };
            let (mut writer, _) = ChunkWriter::open(&scratch)?;
            for number in 0..2 {
                let n_rows = if number == 0 { 8 } else { 5 };
                let rows: Vec<u8> = (0..n_rows * shape.row_bytes()).map(|at| (at / 5) as u8).collect();
                let encoded = codec::encode(Codec { transform, predictor, level }, shape, &rows);
                let identity = Identity { stream: i as u32, number, chunk_rows: 8, stamp_millis: 1 };
                writer.append(identity, &encoded)?;
            }
            writer.commit(Durability::Process)?;
            let name = format!("{kind:?}-{transform:?}").to_lowercase();
            std::fs::write(folder.join(name), input_of(&std::fs::read(&scratch)?))?;
            std::fs::remove_file(&scratch)?;
        }
    }
    // A block of the index stands behind 256 chunks: rows of one byte.
    let (mut writer, _) = ChunkWriter::open(&scratch)?;
    let encoded = codec::encode(Codec::STORED, RowShape { kind: RowKind::U8, width: 1 }, &[7]);
    for number in 0..256 {
        writer.append(Identity { stream: 0, number, chunk_rows: 1, stamp_millis: 1 }, &encoded)?;
    }
    writer.commit(Durability::Process)?;
    let whole = std::fs::read(&scratch)?;
    std::fs::remove_file(&scratch)?;
    // The index alone, and the two records before it, are enough to mutate.
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
