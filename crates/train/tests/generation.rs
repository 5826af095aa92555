//! What a request gets depends on nothing but the request: not on those beside it, on shared prefixes, on the pieces in
//! which its prompt is read, nor on whether the base stays quantised.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use std::ops::ControlFlow;

use models::{checkpoint, real, tiny};
use temper_kernels::{Cached, Cpu, Device, Precision};
use temper_model::{Generated, KvCache, Llama, Purpose, Sampling, Tuning, Workspace, generate, generate_keyed};
use temper_run::Random;

fn answers<D: Device>(model: &Llama<D>, prompts: &[Vec<u32>], new: usize) -> Vec<Generated> {
    generate(model, false, prompts, new, &[2], &Sampling::GREEDY, &mut |_, _, _| ControlFlow::Continue(())).unwrap()
}

/// Ragged prompts: families that share long beginnings, one within another, and loners; one longer than a pass.
fn prompts() -> Vec<Vec<u32>> {
    let token = |stream: &str, i: usize| Random::new(3, stream).below(i as u64, 49_152) as u32;
    let run = |stream: &str, count: usize| (0..count).map(|i| token(stream, i)).collect::<Vec<_>>();
    (0..40)
        .map(|i| {
            let shared = match i % 4 {
                0 => Vec::new(),
                1 => run("family", 40),
                2 => [run("family", 40), run("branch", 23)].concat(),
                _ => run("other", 17),
            };
            [shared, run(&format!("own {i}"), if i == 8 { 300 } else { 1 + i % 7 })].concat()
        })
        .collect()
}

#[test]
fn an_answer_is_the_same_alone_and_among_forty_that_share_prefixes() {
    let (model, prompts) = (real(&Tuning::Frozen), prompts());
    let together = answers(&model, &prompts, 6);
    for i in [0, 1, 2, 3, 8, 21, 38] {
        assert_eq!(answers(&model, &prompts[i..=i], 6)[0], together[i], "request {i}");
    }
}

/// A sampled completion is a function of its prompt, the seed and its key: of a group of one prompt, of all groups, alone.
#[test]
fn a_sampled_completion_is_the_same_alone_and_in_its_group() {
    let model = real(&Tuning::Frozen);
    let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 5 };
    let sample = |prompts: &[Vec<u32>], keys: &[u64]| {
        let go_on = &mut |_, _, _| ControlFlow::Continue(());
        generate_keyed(&model, false, (prompts, keys), 8, &[2], &sampling, go_on).unwrap()
    };
    let prompts: Vec<Vec<u32>> = prompts()[1..9].iter().flat_map(|prompt| vec![prompt.clone(); 4]).collect();
    let keys: Vec<u64> = (0..prompts.len() as u64).map(|i| 1000 - 7 * i).collect();
    let together = sample(&prompts, &keys);
    for i in [0, 1, 9, 30] {
        assert_eq!(sample(&prompts[i..=i], &keys[i..=i])[0], together[i], "request {i}");
    }
    assert_ne!(together[0], together[1], "completions of one prompt differ");
}

#[test]
fn a_quantised_base_gives_the_answers_of_its_decoded_values() {
    let checkpoint = checkpoint();
    let decoded = |name: &str, shape: &[usize]| checkpoint.tensor(name, shape);
    let decoded = Llama::load(Cpu::new(2), checkpoint.config(), &Tuning::Frozen, decoded).unwrap();
    let prompts = &prompts()[..5];
    assert_eq!(answers(&real(&Tuning::Frozen), prompts, 6), answers(&decoded, prompts, 6));
}

#[test]
fn hidden_states_are_the_same_to_the_bit_however_a_prompt_is_read() {
    for precision in [Precision::F32, Precision::Bf16] {
        let d = Cpu::new(2).with_cache(precision);
        let model = tiny(d, true, &Tuning::Frozen);
        let ws = Workspace::allocate(&d, model.config(), [0; 4], Purpose::Infer, 16);
        let ids: Vec<u32> = (0..12).map(|i| (i * 5 + 3) % 19).collect();
        // Passes: for each, (first token, tokens); every second one has a stranger in front of it.
        let read = |passes: &[(usize, usize)]| {
            let cache = KvCache::allocate(&d, model.config(), 30);
            let mut hidden = Vec::new();
            for (number, &(first, count)) in passes.iter().enumerate() {
                let strangers = number % 2;
                let mut all = vec![7; strangers];
                all.extend_from_slice(&ids[first..first + count]);
                let positions: Vec<u32> =
                    (0..strangers).map(|_| 0).chain((first..first + count).map(|i| i as u32)).collect();
                let own: Vec<u32> =
                    (0..strangers).map(|_| 29).chain((first..first + count).map(|i| i as u32)).collect();
                let mut runs = vec![Cached { rows: strangers..strangers + count, seen: vec![0..first + count] }];
                if strangers == 1 {
                    runs.insert(0, Cached { rows: 0..1, seen: vec![29..30] });
                }
                let states = model.extend(&ws, &all, &positions, &cache, &own, &runs, false);
                hidden.extend(d.read(&states.row_range(strangers..strangers + count)));
            }
            hidden
        };
        let whole = read(&[(0, 12)]);
        assert_eq!(read(&[(0, 5), (5, 4), (9, 3)]), whole, "{precision:?}");
        assert_eq!(read(&(0..12).map(|i| (i, 1)).collect::<Vec<_>>()), whole, "{precision:?}");
    }
}
