//! Packed weights in memory and in a mapped file: the same products to the bit, shared by threads, and refused when damaged.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::convert::Infallible;
use std::path::Path;

use temper_kernels::{Cpu, Device, FrozenWeight, PackedError, PackedWeights, Precision, Tensor, Write};
use temper_run::Random;

/// Widths that fill neither a panel nor a group, with parts and without.
fn weights() -> Vec<FrozenWeight> {
    let weight = |name: &str, rows, cols, parts| FrozenWeight { name: name.to_owned(), rows, cols, parts };
    vec![weight("qkv", 93, 37, vec![0..50, 50..53, 53..93]), weight("head", 211, 37, vec![])]
}

fn values(weight: &FrozenWeight) -> Vec<f32> {
    let stream = Random::new(0, &weight.name);
    (0..(weight.rows * weight.cols) as u64).map(|i| (stream.unit(i) - 0.5) as f32).collect()
}

/// `x W^T`, `dy W` and two rows of `W`.
fn results(device: Cpu, weight: &Tensor<<Cpu as Device>::Buffer>) -> Vec<Vec<f32>> {
    let input = |cols: usize| {
        let stream = Random::new(1, "input");
        device.upload(5, cols, &(0..5 * cols as u64).map(|i| stream.unit(i) as f32).collect::<Vec<_>>())
    };
    let [y, dx, rows] = [(5, weight.rows()), (5, weight.cols()), (2, weight.cols())]
        .map(|(r, c)| device.upload(r, c, &vec![0.0; r * c]));
    device.linear(&input(weight.cols()), weight, 1.0, Write::Set, &y);
    device.linear_backward_input(&input(weight.rows()), weight, 1.0, Write::Set, &dx);
    device.gather_rows(weight, &[weight.rows() as u32 - 1, 3], &rows);
    [y, dx, rows].iter().map(|tensor| device.read(tensor)).collect()
}

fn frozen(device: Cpu, weight: &FrozenWeight) -> Vec<Vec<f32>> {
    let tensor = device.upload(weight.rows, weight.cols, &values(weight));
    device.freeze(&tensor, &weight.parts);
    results(device, &tensor)
}

fn found(device: Cpu, packed: &PackedWeights, weight: &FrozenWeight) -> Vec<Vec<f32>> {
    let buffer = packed.find(weight).expect("the weight is there");
    results(device, &Tensor::new(buffer, 0, weight.rows, weight.cols))
}

fn write(path: &Path, device: Cpu) {
    let all = weights();
    PackedWeights::write::<PackedError>(path, &device, "a key", &all, |i| Ok(values(&all[i]))).unwrap();
}

#[test]
fn packed_weights_give_the_bits_of_frozen_ones_on_every_thread() {
    let folder = tempfile::tempdir().unwrap();
    for precision in [Precision::F32, Precision::Bf16] {
        let device = Cpu::new(2).with_precision(precision);
        let path = folder.path().join(format!("{precision:?}"));
        write(&path, device);
        let mapped = PackedWeights::open(&path, &device, "a key").unwrap();
        let all = weights();
        let Ok(memory) = PackedWeights::pack::<Infallible>(&device, &all, |i| Ok(values(&all[i])));
        for weight in &all {
            let expected = frozen(device, weight);
            assert_eq!(found(device, &memory, weight), expected, "{}, in memory, {precision:?}", weight.name);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| assert_eq!(found(device, &mapped, weight), expected, "{}, mapped", weight.name));
                }
            });
        }
        assert!(mapped.find(&FrozenWeight { rows: 92, ..all[0].clone() }).is_none(), "another shape");
        assert!(mapped.find(&FrozenWeight { parts: vec![], ..all[0].clone() }).is_none(), "other parts");
    }
}

#[test]
fn a_file_that_is_not_what_was_written_is_refused() {
    let (folder, device) = (tempfile::tempdir().unwrap(), Cpu::new(2));
    let path = folder.path().join("packed");
    write(&path, device);
    let whole = std::fs::read(&path).unwrap();
    let problem = |path: &Path| match PackedWeights::open(path, &device, "a key") {
        Err(PackedError::Damaged { what, .. }) => what,
        Err(error) => panic!("{error}"),
        Ok(_) => "nothing".to_owned(),
    };
    assert_eq!(problem(&path), "nothing");
    let changed = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    assert_eq!(problem(&changed("cut", &whole[..whole.len() - 4096])), "length");
    assert_eq!(problem(&changed("short", &whole[..40])), "header");
    assert_eq!(problem(&changed("longer", &[&whole[..], &[0]].concat())), "length");
    for (at, what) in [(0, "header"), (60, "header"), (4096 + 100, "qkv"), (whole.len() - 4096, "head")] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert_eq!(problem(&changed(&format!("byte {at}"), &bytes)), what, "byte {at}");
    }
    assert!(matches!(PackedWeights::open(&path, &device, "another key"), Err(PackedError::Damaged { .. })));
    let bf16 = device.with_precision(Precision::Bf16);
    assert!(PackedWeights::open(&path, &bf16, "a key").is_err(), "another precision has other lengths");
    let again = PackedWeights::write::<PackedError>(&path, &device, "a key", &weights(), |i| Ok(values(&weights()[i])));
    assert!(matches!(again, Err(PackedError::Io { .. })), "a file is written once");
}
