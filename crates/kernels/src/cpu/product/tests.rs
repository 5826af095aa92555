//! Products to the bit: against chains of scalar additions, whatever the instructions, threads, blocks and rows.

use super::quantised::Quantised;
use super::tile::CHAIN_UNITS;
use super::*;
use crate::encoding::Encoding;
use crate::operands::Encoded;

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let stream = temper_run::Random::new(seed, "products");
    (0..count as u64).map(|i| (stream.bits(i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

fn rounded(bf16: bool, x: f32) -> f32 {
    if !bf16 {
        return x;
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

/// The contract: chains over blocks of k, each from zero, added in order; in bf16 each pair's odd product first. Without `from` the
/// first chain is the sum. By AMX: of 16 pairs at a time a chain of the even products and one of the odd, each from zero; their
/// sum is added.
fn chains(kernels: Kernels, from: Option<f32>, scale: f32, pairs: impl Iterator<Item = (f32, f32)>) -> f32 {
    let bf16 = kernels.bf16;
    let terms: Vec<(f32, f32)> = pairs.map(|(a, b)| (rounded(bf16, a * scale), rounded(bf16, b))).collect();
    if bf16 && kernels.instructions == Instructions::Amx {
        return terms.chunks(32).fold(from.unwrap_or(0.0), |sum, terms| {
            let chain = |odd| terms.iter().skip(odd).step_by(2).fold(0.0, |sum: f32, (a, b)| a.mul_add(*b, sum));
            sum + (chain(0) + chain(1))
        });
    }
    let step = if bf16 { 2 } else { 1 };
    let chain = |terms: &[(f32, f32)]| {
        terms.chunks(step).fold(0.0, |sum, terms| terms.iter().rev().fold(sum, |sum: f32, (a, b)| a.mul_add(*b, sum)))
    };
    let sums = terms.chunks(CHAIN_UNITS * step).map(chain);
    from.into_iter().chain(sums).reduce(|sum, chain| sum + chain).unwrap_or(0.0)
}

struct Case {
    m: usize,
    lanes: usize,
    k: usize,
    left: Vec<f32>,
    right: Vec<f32>,
    from: Vec<f32>,
}

impl Case {
    fn new(m: usize, lanes: usize, k: usize) -> Self {
        Self { m, lanes, k, left: numbers(1, m * k), right: numbers(2, lanes * k), from: numbers(3, m * lanes) }
    }

    /// Every element by the contract.
    fn expected(&self, kernels: Kernels, scale: f32, add: bool) -> Vec<f32> {
        let at = |i: usize| {
            let (row, lane) = (i / self.lanes, i % self.lanes);
            let pairs = (0..self.k).map(|k| (self.left[row * self.k + k], self.right[lane * self.k + k]));
            chains(kernels, add.then_some(self.from[i]), scale, pairs)
        };
        (0..self.m * self.lanes).map(at).collect()
    }

    fn run(&self, kernels: Kernels, left: View, right: Operand<'_>, scale: f32, add: bool, here: bool) -> Vec<f32> {
        self.run_with(kernels, left, right, scale, add, here, &[])
    }

    fn run_with(
        &self,
        kernels: Kernels,
        left: View,
        right: Operand<'_>,
        scale: f32,
        add: bool,
        here: bool,
        pieces: &[Piece],
    ) -> Vec<f32> {
        let mut to = vec![f32::NAN; self.m * self.lanes];
        let from = add.then(|| Place { at: self.from.as_ptr().cast_mut(), stride: self.lanes });
        let (m, k, to_at) = (self.m, self.k, Place { at: to.as_mut_ptr(), stride: self.lanes });
        let product = Product { m, k, left, scale, right, pieces, inners: &[], from, to: to_at };
        // SAFETY: the operands and the result are whole vectors of this test.
        unsafe { if here { kernels.run_here(&product) } else { kernels.run(&product) } }
        to
    }
}

fn transposed(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| values[(i % rows) * cols + i / rows]).collect()
}

fn kernels() -> impl Iterator<Item = Kernels> {
    let sets = Instructions::ALL.into_iter().filter(|set| set.available());
    sets.flat_map(|instructions| [false, true].map(|bf16| Kernels { instructions, bf16 }))
}

/// Shapes whose edges fall everywhere: lanes, rows, odd k, several blocks of k, few rows and many.
const SHAPES: [(usize, usize, usize); 8] =
    [(1, 1, 1), (7, 50, 37), (1, 100, 64), (8, 48, 2), (130, 17, 65), (65, 96, 31), (200, 64, 3200), (33, 144, 577)];

#[test]
fn every_instruction_set_gives_the_chains_to_the_bit() {
    for (m, lanes, k) in SHAPES {
        let case = Case::new(m, lanes, k);
        let (left_t, right_t) = (transposed(&case.left, m, k), transposed(&case.right, lanes, k));
        let lefts = [View::lanes_by_k(case.left.as_ptr(), k), View::k_by_lanes(left_t.as_ptr(), m)];
        let rights = [View::lanes_by_k(case.right.as_ptr(), k), View::k_by_lanes(right_t.as_ptr(), lanes)];
        let modes = [(1.0, false), (0.3, true)];
        for kernels in kernels() {
            for (scale, add) in modes {
                let expected = &case.expected(kernels, scale, add);
                for left in lefts {
                    for right in rights {
                        for here in [false, true] {
                            let found = case.run(kernels, left, Operand::Plain(right, lanes), scale, add, here);
                            assert!(&found == expected, "[{m}, {k}] x [{k}, {lanes}] with {kernels:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_right_operand_that_no_cache_holds_gives_the_bits_of_one_go() {
    // Of 8.6 and 4.3 million words; the last step is shorter and its last chain is, too.
    let (m, lanes, k) = (65, 960, 9001);
    let case = Case::new(m, lanes, k);
    let right_t = transposed(&case.right, lanes, k);
    for kernels in kernels().filter(|kernels| kernels.instructions == Instructions::best()) {
        for view in [View::lanes_by_k(case.right.as_ptr(), k), View::k_by_lanes(right_t.as_ptr(), lanes)] {
            for add in [false, true] {
                let run = |here| {
                    let left = View::lanes_by_k(case.left.as_ptr(), k);
                    case.run(kernels, left, Operand::Plain(view, lanes), 1.0, add, here)
                };
                assert!(run(false) == run(true), "{kernels:?}");
            }
        }
    }
}

#[test]
fn a_frozen_weight_gives_the_bits_of_a_plain_one_and_reads_back_rounded() {
    let (rows, cols) = (150, 77);
    let weight = numbers(4, rows * cols);
    for kernels in kernels() {
        let frozen = Frozen::pack(kernels, &weight, rows, cols, vec![50, 53, rows]);
        let mut read = vec![0.0; cols];
        for row in 0..rows {
            frozen.read_row(row, &mut read);
            let expected: Vec<f32> = weight[row * cols..][..cols].iter().map(|&w| rounded(kernels.bf16, w)).collect();
            assert_eq!(read, expected, "row {row} with {kernels:?}");
        }
        for m in [3, 90] {
            let forward = Case::new(m, rows, cols);
            let left = View::lanes_by_k(forward.left.as_ptr(), cols);
            let plain = Operand::Plain(View::lanes_by_k(weight.as_ptr(), cols), rows);
            let run = |right| forward.run(kernels, left, right, 1.0, true, false);
            assert!(run(Operand::Forward(&frozen)) == run(plain), "forward with {kernels:?}");
            let backward = Case::new(m, cols, rows);
            let left = View::lanes_by_k(backward.left.as_ptr(), rows);
            let plain = Operand::Plain(View::k_by_lanes(weight.as_ptr(), cols), cols);
            let run = |right| backward.run(kernels, left, right, 1.0, false, false);
            assert!(run(Operand::Backward(&frozen)) == run(plain), "backward with {kernels:?}");
        }
    }
}

/// Rows of blocks with finite scales and minima of both signs.
fn encoded(encoding: Encoding, rows: usize, cols: usize) -> Vec<u8> {
    let stream = temper_run::Random::new(7, "blocks");
    let mut bytes: Vec<u8> = (0..encoding.row_bytes(cols) * rows).map(|i| stream.bits(i as u64) as u8).collect();
    for block in bytes.chunks_exact_mut(encoding.block().1) {
        for half in block[..2 * encoding.halves()].chunks_exact_mut(2) {
            half[1] = half[1] & 0x83 | 0x28; // of magnitude 0.03 to 0.06
        }
    }
    bytes
}

/// `dy W` of `m` rows has the same bits over both.
fn assert_same_backward(kernels: Kernels, m: usize, frozen: &Frozen, plain: &Frozen) {
    let (rows, cols) = frozen.shape();
    let case = Case::new(m, cols, rows);
    let left = View::lanes_by_k(case.left.as_ptr(), rows);
    for (scale, add, here) in [(1.0, false, false), (1.0, true, true), (0.3, true, false)] {
        let run = |frozen| case.run(kernels, left, Operand::Backward(frozen), scale, add, here);
        assert!(run(frozen) == run(plain), "dy W, {m} rows, with {kernels:?}");
    }
}

#[test]
fn a_quantised_weight_gives_the_bits_of_its_decoded_values_and_takes_its_stored_size() {
    let (rows, cols, ends) = (160, 352, vec![48, 64, 160]);
    let b = numbers(6, 96 * 5);
    for encoding in [Encoding::Q4_0, Encoding::Q4_1, Encoding::Q8_0] {
        let bytes = encoded(encoding, rows, cols);
        let parts: Vec<_> = [0..48, 48..64, 64..160]
            .map(|part: Range<usize>| {
                let row = encoding.row_bytes(cols);
                Encoded { encoding, bytes: &bytes[part.start * row..part.end * row] }
            })
            .into();
        let weight = encoding.decode(&bytes, cols);
        for kernels in kernels().filter(|kernels| !kernels.bf16) {
            let kept = Quantised::pack(&parts, cols, &ends).unwrap();
            assert!(kept.bytes() < bytes.len() + 64, "{} bytes for {}", kept.bytes(), bytes.len());
            let frozen = Frozen::keep(kernels, &parts, cols, ends.clone()).unwrap();
            let mut read = vec![0.0; cols];
            for row in 0..rows {
                frozen.read_row(row, &mut read);
                assert_eq!(read, weight[row * cols..][..cols], "row {row} of {encoding} with {kernels:?}");
            }
            let plain = Frozen::pack(kernels, &weight, rows, cols, ends.clone());
            for m in [1, 2, 3, 40, 90] {
                let inner = numbers(5, m * 5);
                let piece = Piece {
                    part: 2,
                    left: View::lanes_by_k(inner.as_ptr(), 5),
                    k: 5,
                    scale: 0.7,
                    right: View::lanes_by_k(b.as_ptr(), 5),
                };
                let case = Case::new(m, rows, cols);
                let left = View::lanes_by_k(case.left.as_ptr(), cols);
                for (scale, add) in [(1.0, false), (1.0, true), (0.3, true)] {
                    for pieces in [&[][..], &[piece][..]] {
                        let run =
                            |frozen| case.run_with(kernels, left, Operand::Forward(frozen), scale, add, false, pieces);
                        assert!(run(&frozen) == run(&plain), "{m} rows, {encoding}, with {kernels:?}");
                    }
                }
                assert_same_backward(kernels, m, &frozen, &plain);
            }
        }
    }
}

#[test]
fn a_quantised_weight_with_lanes_to_spare() {
    let (encoding, rows, cols) = (Encoding::Q4_1, 21, 64);
    let bytes = encoded(encoding, rows, cols);
    let (parts, weight) = ([Encoded { encoding, bytes: &bytes }], encoding.decode(&bytes, cols));
    for kernels in kernels().filter(|kernels| !kernels.bf16) {
        let frozen = Frozen::keep(kernels, &parts, cols, vec![rows]).unwrap();
        let plain = Frozen::pack(kernels, &weight, rows, cols, vec![rows]);
        for m in [1, 7] {
            let case = Case::new(m, rows, cols);
            let left = View::lanes_by_k(case.left.as_ptr(), cols);
            let run = |frozen| case.run(kernels, left, Operand::Forward(frozen), 1.0, true, false);
            assert!(run(&frozen) == run(&plain), "{m} rows with {kernels:?}");
            assert_same_backward(kernels, m, &frozen, &plain);
        }
    }
}

/// With so many rows a weight is decoded once for all tasks.
#[test]
fn a_quantised_weight_under_many_rows() {
    let (m, rows, cols, ends) = (600, 277, 352, vec![48, 85, 277]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for encoding in [Encoding::Q4_0, Encoding::Q4_1, Encoding::Q8_0] {
        let bytes = encoded(encoding, rows, cols);
        let row = encoding.row_bytes(cols);
        let part = |part: Range<usize>| Encoded { encoding, bytes: &bytes[part.start * row..part.end * row] };
        let weight = encoding.decode(&bytes, cols);
        for kernels in kernels().filter(|kernels| !kernels.bf16) {
            let frozen =
                Frozen::keep(kernels, &[part(0..48), part(48..85), part(85..277)], cols, ends.clone()).unwrap();
            let plain = Frozen::pack(kernels, &weight, rows, cols, ends.clone());
            let case = Case::new(m, rows, cols);
            pool.scope(|_| {
                let run = |frozen| {
                    let left = View::lanes_by_k(case.left.as_ptr(), cols);
                    case.run(kernels, left, Operand::Forward(frozen), 1.0, true, false)
                };
                assert!(run(&frozen) == run(&plain), "{encoding} with {kernels:?}");
                assert_same_backward(kernels, m, &frozen, &plain);
            });
        }
    }
}

#[test]
fn rows_do_not_depend_on_the_rows_beside_them() {
    let case = Case::new(300, 200, 333);
    for kernels in kernels() {
        let right = Operand::Plain(View::lanes_by_k(case.right.as_ptr(), case.k), case.lanes);
        let whole = case.run(kernels, View::lanes_by_k(case.left.as_ptr(), case.k), right, 1.0, true, false);
        for rows in [0..1, 5..69, 17..300] {
            let part = Case {
                m: rows.len(),
                left: case.left[rows.start * case.k..rows.end * case.k].to_vec(),
                from: case.from[rows.start * case.lanes..rows.end * case.lanes].to_vec(),
                right: Vec::new(),
                ..case
            };
            let alone = part.run(kernels, View::lanes_by_k(part.left.as_ptr(), case.k), right, 1.0, true, false);
            assert!(alone == whole[rows.start * case.lanes..rows.end * case.lanes], "rows {rows:?} with {kernels:?}");
        }
    }
}

#[test]
fn pieces_are_added_to_their_part() {
    let (m, cols, ends) = (70, 40, vec![50, 53, 150]);
    let weight = numbers(4, 150 * cols);
    let inner = numbers(5, m * 8);
    let b = numbers(6, 97 * 5);
    for kernels in kernels() {
        let case = Case { right: weight.clone(), ..Case::new(m, 150, cols) };
        let frozen = Frozen::pack(kernels, &weight, 150, cols, ends.clone());
        let (left, right) = (View::lanes_by_k(inner[2..].as_ptr(), 8), View::lanes_by_k(b.as_ptr(), 5));
        let piece = Piece { part: 2, left, k: 5, scale: 0.7, right };
        let mut found = vec![0.0; m * 150];
        let product = Product {
            m,
            k: cols,
            left: View::lanes_by_k(case.left.as_ptr(), cols),
            scale: 1.0,
            right: Operand::Forward(&frozen),
            pieces: &[piece],
            inners: &[],
            from: Some(Place { at: case.from.as_ptr().cast_mut(), stride: 150 }),
            to: Place { at: found.as_mut_ptr(), stride: 150 },
        };
        // SAFETY: the operands and the result are whole vectors of this test.
        unsafe { kernels.run(&product) };
        let mut expected = case.expected(kernels, 1.0, true);
        for (i, expected) in expected.iter_mut().enumerate() {
            if let Some(lane) = (i % 150).checked_sub(53) {
                let pairs = (0..5).map(|k| (inner[i / 150 * 8 + 2 + k], b[lane * 5 + k]));
                *expected = chains(kernels, Some(*expected), 0.7, pairs);
            }
        }
        assert!(found == expected, "{kernels:?}");
    }
}

#[test]
fn rows_made_beside_a_product_are_those_of_a_product_of_their_own() {
    struct Span {
        of: Range<usize>,
        lanes: usize,
        right: Vec<f32>,
    }
    // Spans that begin at a chain and elsewhere, across the steps of a block; full registers of lanes and not.
    let (lanes, k) = (300, 3200);
    let spans = [(256..1900, 16), (0..3200, 60), (100..301, 5)].map(|(of, lanes)| {
        let right = numbers(7, lanes * of.len());
        Span { of, lanes, right }
    });
    for m in [200, 40] {
        let case = Case::new(m, lanes, k);
        let left = View::lanes_by_k(case.left.as_ptr(), k);
        let right = Operand::Plain(View::lanes_by_k(case.right.as_ptr(), k), lanes);
        for (kernels, here) in kernels().flat_map(|kernels| [(kernels, false), (kernels, true)]) {
            let mut found = spans.each_ref().map(|span| vec![f32::NAN; m * span.lanes]);
            let mut places = found.iter_mut().map(|found| found.as_mut_ptr());
            let inners = spans.each_ref().map(|Span { of, lanes, right }| Inner {
                of: of.clone(),
                lanes: *lanes,
                right: View::lanes_by_k(right.as_ptr(), of.len()),
                scale: 0.7,
                to: Place { at: places.next().unwrap_or(std::ptr::null_mut()), stride: *lanes },
            });
            let mut to = vec![0.0; m * lanes];
            let place = Place { at: to.as_mut_ptr(), stride: lanes };
            let product =
                Product { m, k, left, scale: 1.0, right, pieces: &[], inners: &inners, from: None, to: place };
            // SAFETY: the operands and the results are whole vectors of this test.
            unsafe { if here { kernels.run_here(&product) } else { kernels.run(&product) } }
            assert!(to == case.run(kernels, left, right, 1.0, false, here), "the product with {kernels:?}");
            for (Span { of, lanes, right }, found) in spans.iter().zip(&found) {
                for (i, found) in found.iter().enumerate() {
                    let (row, lane) = (i / lanes, i % lanes);
                    let term = |u| (case.left[row * k + of.start + u], right[lane * of.len() + u] * 0.7);
                    let expected = chains(kernels, None, 1.0, (0..of.len()).map(term));
                    assert!(*found == expected, "row {row}, lane {lane} of {of:?} with {kernels:?}");
                }
            }
        }
    }
}

#[test]
fn bf16_rounds_to_nearest_even_and_keeps_what_is_not_a_number() {
    let values = [1.0, 1.003_906_3, 1.011_718_8, -3.0e38, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40];
    let mut outcomes: Vec<Vec<u32>> = Vec::new();
    for instructions in Instructions::ALL.into_iter().filter(|set| set.available()) {
        let kernels = Kernels { instructions, bf16: true };
        let frozen = Frozen::pack(kernels, &values, values.len(), 1, vec![values.len()]);
        let mut read = [0.0];
        let bits = (0..values.len()).map(|row| {
            frozen.read_row(row, &mut read);
            read[0].to_bits()
        });
        outcomes.push(bits.collect());
        let frozen = Frozen::pack(kernels, &[f32::NAN], 1, 1, vec![1]);
        frozen.read_row(0, &mut read);
        assert!(read[0].is_nan());
    }
    let expected = [1.0, 1.0, 1.015_625, -3.004e38, f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 0.0];
    for outcome in &outcomes {
        assert_eq!(outcome, &outcomes[0]);
        for (found, expected) in outcome.iter().zip(expected) {
            let found = f32::from_bits(*found);
            assert!(found == expected || (found / expected - 1.0).abs() < 2e-3, "{found} is not {expected}");
        }
    }
}

/// `cargo xtask e2e avx512` reads this line: it shows which instruction sets the tests above ran.
#[test]
#[allow(clippy::print_stdout, reason = "the line that is read")]
fn the_instruction_sets_of_this_processor() {
    let sets: Vec<_> = Instructions::ALL.into_iter().filter(|set| set.available()).map(Instructions::name).collect();
    println!("instruction sets: {}", sets.join(" "));
    assert_eq!(sets[0], Instructions::best().name());
}
