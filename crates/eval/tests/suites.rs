//! Suites on the real model: every packed and shared layout gives what plain sequences, one at a time, give.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use temper_eval::items;
use temper_eval::suite::{Bench, EvalError, KlScore, Side, chat_kl};
use temper_kernels::{Cpu, Device, Pick, Segment, Tensor, Write};
use temper_model::{Checkpoint, Llama, LoraSettings, Purpose, Tokens, Tuning, Workspace};
use temper_text::{ChatRules, Message, Renderer, Specials, Tokenizer};

type Buffer = <Cpu as Device>::Buffer;

/// Tokens of a packed batch: small enough that the tiny files need several.
const BUDGET: usize = 256;

struct Loaded {
    model: Llama<Cpu>,
    renderer: Renderer,
    workspace: Workspace<Buffer>,
}

impl Loaded {
    fn new(tuning: &Tuning) -> Loaded {
        Self::with_budget(tuning, BUDGET)
    }

    fn with_budget(tuning: &Tuning, budget: usize) -> Loaded {
        let path: PathBuf = std::env::var_os("TEMPER_TEST_GGUF")
            .expect("TEMPER_TEST_GGUF is not set: run these tests with `cargo xtask test`, which fetches the model")
            .into();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let config = checkpoint.config();
        let model = Llama::load(Cpu::new(2), config, tuning, |name, shape| checkpoint.stored(name, shape)).unwrap();
        let tokenizer = Tokenizer::from_gguf(&checkpoint.gguf_vocab().unwrap().unwrap()).unwrap();
        let renderer = Renderer::new(tokenizer, None).unwrap();
        let inner = model.adapter_space();
        let workspace = Workspace::allocate(model.device(), config, inner, Purpose::Infer, budget);
        Loaded { model, renderer, workspace }
    }

    fn bench(&self, adapter: bool) -> Bench<'_, Cpu> {
        let side = Side { model: &self.model, adapter };
        Bench { side, renderer: &self.renderer, workspace: &self.workspace }
    }

    /// Final hidden states of one plain sequence.
    fn hidden(&self, ids: &[u32], adapter: bool) -> Tensor<Buffer> {
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let segments = [Segment::alone(0..ids.len())];
        self.model.forward(&self.workspace, Tokens { ids, positions: &positions, segments: &segments }, adapter)
    }

    /// Log-probability of `ids[from..]` given what stands before, in nats.
    fn logprob(&self, ids: &[u32], from: usize) -> f64 {
        let hidden = self.hidden(ids, false);
        let picks: Vec<Pick> = (from..ids.len()).map(|at| Pick { row: at as u32 - 1, token: ids[at] }).collect();
        let head = &self.model.head().value;
        let found = self.model.device().linear_logprob(&hidden, head, &picks, &self.workspace.logits[0], None);
        found.logprob.iter().map(|&logprob| f64::from(logprob)).sum()
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/tests").join(name)
}

fn labels() -> Vec<String> {
    ["Eye", "Neoplasm", "Pregnancy", "Respiratory"].map(String::from).to_vec()
}

#[track_caller]
fn assert_close(got: f64, expected: f64, what: &str) {
    assert!((got - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{what}: {got}, expected {expected}");
}

#[test]
fn choices_score_as_plain_sequences() {
    let loaded = Loaded::with_budget(&Tuning::Frozen, BUDGET / 2);
    let items = items::read_multiple_choice(&data("tiny_mc.jsonl")).unwrap();
    let mut heard = Vec::new();
    let scores = loaded.bench(false).multiple_choice(&items, &mut |done, of| heard.push((done, of))).unwrap();
    assert!(heard.len() > 1, "the budget should make several batches, heard {heard:?}");
    assert_eq!(heard.last(), Some(&(16, 16)));
    for (item, score) in items.iter().zip(&scores) {
        let prompt = loaded.renderer.completion_prompt(&item.prompt).unwrap();
        let mut best = (0, f64::NEG_INFINITY);
        for (index, choice) in item.choices.iter().enumerate() {
            let choice = loaded.renderer.tokenizer().encode(&format!(" {choice}"), Specials::AsText);
            let plain = loaded.logprob(&[prompt.as_slice(), &choice].concat(), prompt.len());
            assert_close(score.logprobs[index], plain, &format!("line {} choice {index}", item.line));
            if plain > best.1 {
                best = (index, plain);
            }
        }
        assert_eq!(score.correct, best.0 == item.answer);
    }
}

#[test]
fn labels_over_their_trie_score_as_plain_sequences() {
    let loaded = Loaded::new(&Tuning::Frozen);
    // Labels with common beginnings of one and two words, and one that begins another.
    let mut labels = labels();
    labels.extend(["Eye disease", "Eye disease of the left eye", "Eye injury", "Pregnant"].map(String::from));
    let items = items::read_classification(&data("tiny_validation.jsonl"), &labels).unwrap();
    let scores = loaded.bench(false).classify(&items, &labels, &mut |_, _| {}).unwrap();
    let end = loaded.renderer.end_of_turn();
    for (item, score) in items.iter().zip(&scores) {
        let prompt = loaded.renderer.prompt(&item.prompt).unwrap();
        let mut best = (0, f64::NEG_INFINITY);
        for (index, label) in labels.iter().enumerate() {
            let mut messages = item.prompt.clone();
            messages.push(Message::new("assistant", label.as_str()));
            let whole = loaded.renderer.chat(&messages, &ChatRules::default()).unwrap().remove(0).ids;
            let length = whole.iter().rposition(|&id| id == end).unwrap() + 1;
            let plain = loaded.logprob(&whole[..length], prompt.len());
            assert_close(score.logprobs[index], plain, &format!("line {} label {label}", item.line));
            if plain > best.1 {
                best = (index as u32, plain);
            }
        }
        assert_eq!(score.outcome.predicted, Some(best.0));
        assert_eq!(score.outcome.truth, item.label);
    }
}

#[test]
fn text_loss_is_that_of_each_document_alone() {
    let loaded = Loaded::new(&Tuning::Frozen);
    let mut items = items::read_text(&data("tiny_heldout.jsonl")).unwrap();
    let losses = loaded.bench(false).text_loss(&items, &mut |_, _| {}).unwrap();
    for (item, loss) in items.iter().zip(&losses) {
        let ids = loaded.renderer.text(&item.text).unwrap().ids;
        assert_eq!((loss.tokens, loss.bytes), (ids.len() as u64 - 1, item.text.len() as u64));
        assert_close(loss.nats, -loaded.logprob(&ids, 1), &format!("line {}", item.line));
    }

    // Texts beyond the budget are refused, all named at once.
    for index in [2, 5] {
        items[index].text = "word ".repeat(BUDGET);
    }
    let error = loaded.bench(false).text_loss(&items, &mut |_, _| {}).unwrap_err();
    let EvalError::TooLong(long) = &error else { panic!("{error}") };
    assert_eq!(long.iter().map(|item| (item.line, item.limit)).collect::<Vec<_>>(), [(3, BUDGET), (6, BUDGET)]);
    assert!(error.to_string().contains("line 3: ") && error.to_string().contains("at most 256"), "{error}");
}

/// Common beginnings are computed once for all items of a pass, which changes rounding only. Relative to the larger of 1 and
/// the value; allowed: 1e-5.
#[test]
fn items_scored_together_have_the_scores_of_each_alone() {
    let loaded = Loaded::new(&Tuning::Frozen);
    let bench = loaded.bench(false);
    let (labels, quiet) = (labels(), &mut |_: usize, _: usize| {});
    let near = |together: &[f64], alone: &[f64], what: &str| {
        assert_eq!(together.len(), alone.len());
        for (a, b) in together.iter().zip(alone) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: together {a}, alone {b}");
        }
    };

    let rows = items::read_classification(&data("tiny_validation.jsonl"), &labels).unwrap();
    let prompts: Vec<Vec<u32>> = rows.iter().map(|row| loaded.renderer.prompt(&row.prompt).unwrap()).collect();
    let shared = prompts[0].iter().zip(&prompts[1]).take_while(|(a, b)| a == b).count();
    assert!(shared > 5, "the rows begin alike: {shared} tokens");
    let together = bench.classify(&rows, &labels, quiet).unwrap();
    for (row, together) in rows.chunks(1).zip(&together) {
        let alone = bench.classify(row, &labels, quiet).unwrap().remove(0);
        near(&together.logprobs, &alone.logprobs, "labels");
        assert_eq!(together.outcome, alone.outcome);
    }

    let questions = items::read_multiple_choice(&data("tiny_mc.jsonl")).unwrap();
    let together = bench.multiple_choice(&questions, quiet).unwrap();
    for (question, together) in questions.chunks(1).zip(&together) {
        let alone = bench.multiple_choice(question, quiet).unwrap().remove(0);
        near(&together.logprobs, &alone.logprobs, "choices");
    }

    // Twice the same document, and one that goes on where another ends.
    let mut texts = items::read_text(&data("tiny_heldout.jsonl")).unwrap();
    texts.truncate(4);
    texts.push(texts[0].clone());
    texts.push(texts[1].clone());
    texts[5].text.push_str(" And so on.");
    let together = bench.text_loss(&texts, quiet).unwrap();
    for (text, together) in texts.chunks(1).zip(&together) {
        let alone = bench.text_loss(text, quiet).unwrap().remove(0);
        near(&[together.nats], &[alone.nats], "text");
        assert_eq!((together.tokens, together.bytes), (alone.tokens, alone.bytes));
    }
}

#[test]
fn divergence_is_zero_from_itself_and_that_of_plain_logits_from_an_adapter() {
    let lora = LoraSettings::new(4, 8.0, vec!["q_proj".to_owned(), "down_proj".to_owned()]);
    let loaded = Loaded::new(&Tuning::Lora(lora));
    loaded.model.init_adapters(1);
    let items = items::read_chat_prompts(&data("tiny_chat_prompts.jsonl")).unwrap();
    let (base, tuned) = (loaded.bench(false), loaded.bench(true));
    let answers = base.chat_answers(&items, 8, &mut |_, _| {}).unwrap();
    assert!(answers.iter().all(|answer| (1..=8).contains(&answer.len())));
    // B is zero at the start, so the adapter adds nothing yet.
    let own = chat_kl(&base, tuned.side, &items, &answers, &mut |_, _| {}).unwrap();
    for score in &own {
        assert!(score.kl_sum.abs() < 1e-6 * score.tokens as f64, "{score:?}");
    }

    let device = loaded.model.device();
    for (name, adapter) in loaded.model.adapters() {
        if name.ends_with("lora_B.weight") {
            let values: Vec<f32> = (0..adapter.value.len()).map(|i| (i % 7) as f32 * 0.04 - 0.12).collect();
            device.write(&adapter.value, &values);
        }
    }
    let scores = chat_kl(&base, tuned.side, &items, &answers, &mut |_, _| {}).unwrap();
    let vocabulary = loaded.model.config().vocab_size;
    for ((item, answer), score) in items.iter().zip(&answers).zip(&scores) {
        let prompt = loaded.renderer.prompt(&item.messages).unwrap();
        let ids = [prompt.as_slice(), answer].concat();
        let rows = prompt.len() - 1..ids.len() - 1;
        let log_softmax = |adapter| -> Vec<Vec<f64>> {
            let hidden = loaded.hidden(&ids, adapter).row_range(rows.clone());
            let logits = Tensor::new(device.zeros(answer.len() * vocabulary), 0, answer.len(), vocabulary);
            device.linear(&hidden, &loaded.model.head().value, 1.0, Write::Set, &logits);
            let normalise = |row: &[f32]| {
                let top = row.iter().fold(f32::NEG_INFINITY, |top, &z| top.max(z));
                let total: f64 = row.iter().map(|&z| f64::from(z - top).exp()).sum();
                row.iter().map(|&z| f64::from(z - top) - total.ln()).collect()
            };
            device.read(&logits).chunks(vocabulary).map(normalise).collect()
        };
        let (p, q) = (log_softmax(false), log_softmax(true));
        let pairs = p.iter().flatten().zip(q.iter().flatten());
        let expected: f64 = pairs.map(|(p, q)| p.exp() * (p - q)).sum();
        assert!(expected > 1e-3, "the adapter should change something, KL is {expected}");
        assert_close(score.kl_sum, expected, &format!("line {}", item.line));
        assert_eq!(*score, KlScore { kl_sum: score.kl_sum, tokens: answer.len() });
    }
}

#[test]
fn answers_are_written_and_checked() {
    let loaded = Loaded::new(&Tuning::Frozen);
    let items = items::read_classification(&data("tiny_validation.jsonl"), &labels()).unwrap();
    let mut last = None;
    let written = loaded.bench(false).exact_match(&items, &labels(), &mut |done, of| last = Some((done, of))).unwrap();
    assert_eq!(last, Some((8, 8)));
    for (item, written) in items.iter().zip(&written) {
        assert_eq!(written.exact, written.answer == labels()[item.label as usize]);
        assert!(!written.answer.is_empty());
    }
    let items = items::read_instructions(&data("tiny_instructions.jsonl")).unwrap();
    let scores = loaded.bench(false).instruction_following(&items, 24, &mut |_, _| {}).unwrap();
    for score in &scores {
        assert_eq!(score.passed, score.share == 1.0, "{score:?}");
    }
    // The base follows some of the eight and not all.
    let passed = scores.iter().filter(|score| score.passed).count();
    assert!((1..8).contains(&passed), "{passed} of {}", scores.len());
}

/// The same items at several sizes of a pass, in three orders: the same scores. Measured: to the bit, for texts and for questions
/// whose choices share their prompt. Allowed: 1e-6, as the rounding of attention goes by what texts begin with in common.
#[test]
fn scores_do_not_depend_on_batch_size_packing_or_order() {
    let texts = items::read_text(&data("tiny_heldout.jsonl")).unwrap();
    let questions = items::read_multiple_choice(&data("tiny_mc.jsonl")).unwrap();
    // Places of the items: as they are, backwards, and every third first.
    let orders = |count: usize| {
        let thirds = (0..3).flat_map(|from| (from..count).step_by(3)).collect();
        [(0..count).collect::<Vec<usize>>(), (0..count).rev().collect(), thirds]
    };
    /// Log-probabilities of a question's choices, and whether the right one was the likeliest.
    type Choices = (Vec<f64>, bool);
    let mut first: Option<(Vec<f64>, Vec<Choices>)> = None;
    let mut worst = 0.0f64;
    for budget in [160, 256, 1024] {
        let loaded = Loaded::with_budget(&Tuning::Frozen, budget);
        for (of_texts, of_questions) in orders(texts.len()).into_iter().zip(orders(questions.len())) {
            let bench = loaded.bench(false);
            let ordered: Vec<_> = of_texts.iter().map(|&i| texts[i].clone()).collect();
            let mut losses = vec![0.0; texts.len()];
            for (score, &place) in bench.text_loss(&ordered, &mut |_, _| {}).unwrap().iter().zip(&of_texts) {
                losses[place] = score.nats;
            }
            let ordered: Vec<_> = of_questions.iter().map(|&i| questions[i].clone()).collect();
            let mut choices = vec![(Vec::new(), false); questions.len()];
            for (score, &place) in bench.multiple_choice(&ordered, &mut |_, _| {}).unwrap().iter().zip(&of_questions) {
                choices[place] = (score.logprobs.clone(), score.correct);
            }
            let Some((known_losses, known_choices)) = &first else {
                first = Some((losses, choices));
                continue;
            };
            let mut near = |got: f64, known: f64| worst = worst.max((got - known).abs() / known.abs().max(1.0));
            losses.iter().zip(known_losses).for_each(|(&got, &known)| near(got, known));
            for ((got, correct), (known, known_correct)) in choices.iter().zip(known_choices) {
                assert_eq!(correct, known_correct);
                got.iter().zip(known).for_each(|(&got, &known)| near(got, known));
            }
        }
    }
    assert!(worst <= 1e-6, "largest relative difference {worst:e}");
}
