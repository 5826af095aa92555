//! Conversations by the templates of published models, against texts of `transformers` (`tests/golden/chat`, whose README
//! says how they were made).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod goldens;
mod toy;

use std::collections::BTreeMap;

use goldens::Cases;
use serde::Deserialize;
use temper_text::{GgufVocab, Renderer, Tokenizer};

#[derive(Deserialize)]
struct Goldens {
    templates: BTreeMap<String, Golden>,
}

#[derive(Deserialize)]
struct Golden {
    bos_token: Option<String>,
    eos_token: String,
    /// By case: without generation prompt, and with one; nothing where the template raises.
    texts: BTreeMap<String, [Option<String>; 2]>,
}

/// A renderer whose vocabulary has the special tokens of the golden.
fn renderer(golden: &Golden, template: &str) -> Renderer {
    let mut vocab = toy::vocab(Some(template));
    let mut special = |token: &str| {
        let known = vocab.tokens.iter().position(|known| known == token);
        let id = known.unwrap_or_else(|| {
            vocab.tokens.push(token.to_owned());
            vocab.token_types.push(3);
            vocab.tokens.len() - 1
        });
        Some(id as u32)
    };
    let (bos_id, eos_id) = (golden.bos_token.as_deref().and_then(&mut special), special(&golden.eos_token));
    let vocab = GgufVocab { bos_id, eos_id, unk_id: None, pad_id: None, ..vocab };
    let day = "2026-01-02T00:00:00Z".parse().unwrap();
    Renderer::new_at(Tokenizer::from_gguf(&vocab).unwrap(), None, day).unwrap()
}

/// A template is a program that came with a model: one that does not end is refused, in a matter of seconds.
#[test]
fn a_template_that_does_not_end_is_refused() {
    let endless = "{% for a in range(50000) %}{% for b in range(50000) %}{% set c = b %}{% endfor %}{% endfor %}";
    let turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let vocab = toy::vocab(Some(&format!("{turns}\n{{% if messages[0].content == 'loop' %}}\n{endless}{{% endif %}}")));
    let renderer = Renderer::new(Tokenizer::from_gguf(&vocab).unwrap(), None).unwrap();
    let said = |content: &str| {
        let messages = vec![temper_text::Message::new("user", content)];
        renderer.chat_text(&temper_text::Conversation { messages, tools: Vec::new() }, false)
    };
    assert!(said("go").unwrap().contains("user\ngo"));
    let start = std::time::Instant::now();
    let error = said("loop").unwrap_err().to_string();
    assert!(error.contains("chat template, line 5: more than 8000000 steps, expected loops that end"), "{error}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn texts_are_those_of_transformers() {
    let (cases, goldens): (Cases, Goldens) = (goldens::read("cases.json"), goldens::read("rendered.json"));
    let (mut templates, mut wrong) = (0, Vec::new());
    for (name, golden) in &goldens.templates {
        let Some(template) = goldens::template(name) else { continue };
        templates += 1;
        let renderer = renderer(golden, &template);
        for case in &cases.conversations {
            for (expected, generation) in golden.texts[&case.name].iter().zip([false, true]) {
                match (renderer.chat_text(&case.conversation(), generation), expected) {
                    (Ok(text), Some(expected)) if text == *expected => {}
                    (Err(_), None) => {}
                    (got, expected) => wrong.push(format!("{name}, {}: {got:?}\nexpected {expected:?}", case.name)),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} texts differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(templates, if goldens::fetched().is_some() { 25 } else { 20 });
}
