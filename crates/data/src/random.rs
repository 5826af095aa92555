//! Counter-based randomness: a number is a pure function of where it is used, so nothing has to be stored to resume.

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014), a bijection on 64 bits that passes avalanche tests.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A uniform 64-bit number for a counter of four parts: each is added with SplitMix64's odd increment and mixed in.
fn hash(counter: [u64; 4]) -> u64 {
    counter.iter().fold(0, |state, part| mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ mix(*part)))
}

/// A shuffle of `0..n` (Fisher-Yates), a pure function of its arguments. `stream` tells apart what is shuffled with one
/// seed. Indices come by multiply-and-shift; their bias is below `n / 2^64`.
pub fn permutation(seed: u64, stream: u64, epoch: u64, n: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..order.len()).rev() {
        let drawn = hash([seed, stream, epoch, i as u64]);
        let j = (u128::from(drawn) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
    order
}
