//! Changes at random places, the same ones for a seed: what a stable compiler has instead of a fuzzer.

const TOKENS: [&[u8]; 15] = [
    b"\"",
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b"=",
    b".",
    b"\n",
    b"\xc3",
    b"\xf0\x9f\x98\x80",
    b"9",
    b"-",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
];

/// Numbers without end (splitmix64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// The numbers of a seed.
    pub fn of_seed(seed: u64) -> Numbers {
        Numbers(seed)
    }

    /// The next number, from 0 up to but not including `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }
}

/// One to four changes: a cut, a piece less, a piece more, a piece twice, or one bit.
pub fn changed(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        change(&mut changed, numbers);
    }
    changed
}

fn change(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(bytes.len() + 1);
    match numbers.below(6) {
        0 => bytes.truncate(at),
        1 => {
            let end = (at + numbers.below(9)).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => {
            let token = TOKENS.get(numbers.below(TOKENS.len())).copied().unwrap_or_default();
            bytes.splice(at..at, token.iter().copied());
        }
        3 => {
            let from = numbers.below(bytes.len() + 1);
            let end = (from + numbers.below(40)).min(bytes.len());
            let piece = bytes.get(from..end).unwrap_or_default().to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
    }
}
