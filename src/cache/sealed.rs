//! What every file begins with: a head that only this very program reads, under a checksum.
//!
//! `magic, source and processor, bytes of the head, bytes of the file, checksum of the head and of all before`, each little-endian and 16 or 8
//! bytes long; then the head in postcard's encoding, and the content from the next multiple of 64 bytes.

use crate::op::simd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::sync::OnceLock;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

const MAGIC: [u8; 16] = *b"undiffuse cache\n";
const BEFORE: usize = 48;
const HEAD: usize = BEFORE + 8;
/// Content lies at multiples of this, as in memory.
pub(crate) const ALIGN: usize = 64;

/// The begin of a file with `content` bytes of content, up to where they begin.
///
/// # Errors
/// `postcard`'s.
pub(crate) fn seal(head: &impl Serialize, content: usize) -> postcard::Result<Vec<u8>> {
    let head = postcard::to_stdvec(head)?;
    let begin = (HEAD + head.len()).next_multiple_of(ALIGN);
    let mut bytes = MAGIC.to_vec();
    bytes.extend(program().to_le_bytes());
    bytes.extend((head.len() as u64).to_le_bytes());
    bytes.extend(((begin + content) as u64).to_le_bytes());
    let checksum = checksum(&bytes, &head);
    bytes.extend(checksum.to_le_bytes());
    bytes.extend(head);
    bytes.resize(begin, 0);
    Ok(bytes)
}

/// The head of a whole file and where its content lies; `None` for what this program did not write, or not so.
pub(crate) fn open<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, Range<usize>)> {
    let (before, rest) = bytes.split_at_checked(BEFORE)?;
    let (stored, rest) = rest.split_at_checked(8)?;
    let number = |range: Range<usize>| usize::try_from(u64::from_le_bytes(before[range].try_into().ok()?)).ok();
    let (head, length) = (rest.get(..number(32..40)?)?, number(40..48)?);
    let ours = before[..16] == MAGIC && before[16..32] == program().to_le_bytes() && length == bytes.len();
    if !ours || stored != checksum(before, head).to_le_bytes() {
        return None;
    }
    let begin = (HEAD + head.len()).next_multiple_of(ALIGN);
    Some((postcard::from_bytes(head).ok()?, begin..bytes.len())).filter(|(_, content)| begin <= content.end)
}

fn checksum(before: &[u8], head: &[u8]) -> u64 {
    xxh3_64(head) ^ xxh3_64(before).rotate_left(1)
}

/// Another number for another source, target or processor.
fn program() -> u128 {
    static PROGRAM: OnceLock<u128> = OnceLock::new();
    *PROGRAM.get_or_init(|| {
        let endian = if cfg!(target_endian = "big") { "big" } else { "little" };
        let words = [env!("UNDIFFUSE_SOURCE"), std::env::consts::ARCH, endian, &format!("{:?}", simd::arch())];
        xxh3_128(words.join(" ").as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_changed_bit_and_no_cut_is_read() {
        let head = ("a head".to_owned(), vec![1u64, 2, 1 << 40]);
        let mut file = seal(&head, 10).unwrap();
        assert!(file.len().is_multiple_of(ALIGN));
        file.extend([9; 10]);
        let (read, content) = open::<(String, Vec<u64>)>(&file).unwrap();
        assert_eq!((read, &file[content]), (head, &[9; 10][..]));
        let head_end = HEAD + postcard::to_stdvec(&("a head", [1u64, 2, 1 << 40].as_slice())).unwrap().len();
        for bit in 0..head_end * 8 {
            let mut changed = file.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<(String, Vec<u64>)>(&changed).is_none(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(open::<(String, Vec<u64>)>(&file[..length]).is_none(), "{length} bytes");
        }
        assert!(open::<(String, Vec<u64>)>(&[&file[..], &[0]].concat()).is_none());
    }
}
