//! What is trained, and that training sees the prompts that are seen in use.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod toy;

use temper_text::{ChatRules, GgufVocab, Message, RenderError, Rendered, Renderer, Specials, Tokenizer};

fn conversation(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, content)| Message::new(*role, *content)).collect()
}

fn chat(renderer: &Renderer, messages: &[Message]) -> Result<Rendered, RenderError> {
    let rows = renderer.chat(messages, &ChatRules::default())?;
    assert_eq!(rows.len(), 1);
    Ok(rows.into_iter().next().unwrap())
}

/// The text of the trained tokens, one string per run of them.
fn trained_text(renderer: &Renderer, rendered: &Rendered) -> Vec<String> {
    assert_eq!(rendered.ids.len(), rendered.trained.len());
    let runs = rendered.ids.iter().zip(&rendered.trained).collect::<Vec<_>>();
    runs.chunk_by(|a, b| a.1 == b.1)
        .filter(|run| *run[0].1)
        .map(|run| renderer.tokenizer().decode(&run.iter().map(|(id, _)| **id).collect::<Vec<_>>(), false))
        .collect()
}

#[test]
fn megatron_bridge_3359_only_the_assistant_is_trained_though_the_template_marks_nothing() {
    let renderer = toy::renderer(toy::CHATML);
    let messages = conversation(&[
        ("system", "S"),
        ("user", "assistant"),
        ("assistant", "hi you"),
        ("user", "hi"),
        ("assistant", "er\n"),
    ]);
    let rendered = chat(&renderer, &messages).unwrap();
    assert_eq!(trained_text(&renderer, &rendered), ["hi you<|im_end|>", "er\n<|im_end|>"]);
    let text = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nassistant<|im_end|>\n<|im_start|>assistant\nhi you\
                <|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\ner\n<|im_end|>\n";
    assert_eq!(renderer.tokenizer().decode(&rendered.ids, false), text);
    assert_eq!(rendered.ids, renderer.tokenizer().encode(text, Specials::Parse));
    assert_eq!(renderer.end_of_turn(), 2);
    assert_eq!(renderer.stop_ids(), [0, 2]);
}

/// verl#3287: a mask one late leaves the first answer token untrained.
#[test]
fn verl_3287_the_first_token_of_the_answer_is_the_first_that_is_trained() {
    let renderer = toy::renderer(toy::CHATML);
    let rendered = chat(&renderer, &conversation(&[("user", "hi"), ("assistant", "you")])).unwrap();
    let first = rendered.trained.iter().position(|&t| t).unwrap();
    let prompt = renderer.prompt(&conversation(&[("user", "hi")])).unwrap();
    assert_eq!(first, prompt.len());
    assert_eq!(rendered.ids[first], renderer.tokenizer().id("y").unwrap());

    let rendered = renderer.completion("hi", " you").unwrap();
    let id = |token| renderer.tokenizer().id(token).unwrap();
    assert_eq!(rendered.ids, [id("hi"), id("Ġyou"), 2]);
    assert_eq!(rendered.trained, [false, true, true]);
}

/// Encoding the whole at once would merge the header's newline with the answer's: `ĊĊ`, which no generation can yield.
#[test]
fn each_prompt_is_a_prefix_of_the_trained_ids_whatever_the_contents() {
    let renderer = toy::renderer(toy::CHATML);
    let contents =
        ["", "\n", "\nhi", " you", "<|im_end|>", "hi<|im_start|>assistant\n", "im_end|>", "é\u{F8F0}0\u{F8F0}"];
    for question in contents {
        for answer in contents {
            for again in contents {
                let messages =
                    conversation(&[("user", question), ("assistant", answer), ("user", answer), ("assistant", again)]);
                let rendered = chat(&renderer, &messages).unwrap();
                for turn in [1, 3] {
                    let prompt = renderer.prompt(&messages[..turn]).unwrap();
                    assert_eq!(rendered.ids[..prompt.len()], prompt, "{messages:?}");
                    assert!(!rendered.trained[prompt.len() - 1] && rendered.trained[prompt.len()]);
                }
                let expected = [format!("{answer}<|im_end|>"), format!("{again}<|im_end|>")];
                assert_eq!(trained_text(&renderer, &rendered), expected);
                // Five control tokens pairs of the template, whatever the contents spell.
                assert_eq!(rendered.ids.iter().filter(|&&id| id == 2).count(), 5);
                assert_eq!(rendered.ids.iter().filter(|&&id| id == 1).count(), 5);
            }
        }
    }
}

#[test]
fn llama_factory_2962_odd_conversations_have_a_stated_policy() {
    let renderer = toy::renderer(toy::CHATML);
    let refused = |turns: &[(&str, &str)]| chat(&renderer, &conversation(turns)).unwrap_err();
    assert_eq!(refused(&[]), RenderError::NoMessages);
    assert_eq!(refused(&[("system", "S"), ("user", "hi")]), RenderError::NoAssistantTurn);
    assert_eq!(refused(&[("assistant", "hi")]), RenderError::AssistantFirst);
    assert_eq!(
        refused(&[("user", "a"), ("assistant", "b"), ("assistant", "c")]),
        RenderError::AssistantTwice { message: 3 }
    );
    assert_eq!(
        refused(&[("user", "a"), ("critic", "b"), ("assistant", "c")]),
        RenderError::UnknownRole { message: 2, role: "critic".into() }
    );
    assert_eq!(
        renderer.prompt(&conversation(&[("user", "a"), ("assistant", "b")])).unwrap_err(),
        RenderError::EndsWithAssistant { message: 2 }
    );
    // An empty answer trains its end of turn and nothing else.
    let rendered = chat(&renderer, &conversation(&[("user", "a"), ("assistant", "")])).unwrap();
    assert_eq!(trained_text(&renderer, &rendered), ["<|im_end|>"]);
}

#[test]
fn openrlhf_393_a_template_that_prints_the_begin_token_yields_one() {
    let template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}\
                    {% if add_generation_prompt %}assistant: {% endif %}";
    let vocab = GgufVocab { bos_id: Some(3), add_bos: true, ..toy::vocab(Some(template)) };
    let renderer = Renderer::new(Tokenizer::from_gguf(&vocab).unwrap(), None).unwrap();
    let rendered = chat(&renderer, &conversation(&[("user", "hi"), ("assistant", "you")])).unwrap();
    assert_eq!(rendered.ids.iter().filter(|&&id| id == 3).count(), 1);
    assert_eq!(rendered.ids[0], 3);
    assert_eq!(trained_text(&renderer, &rendered), ["you<|im_end|>"]);
    // Rows without a template get it from the tokenizer's flag, once.
    assert_eq!(renderer.completion("hi", "hi").unwrap().ids.iter().filter(|&&id| id == 3).count(), 1);
    assert_eq!(renderer.text("hi").unwrap().ids[..1], [3]);
}

/// openrlhf#1080: a template that drops the thoughts of earlier turns renders a turn differently when it is not last.
#[test]
fn openrlhf_1080_a_template_that_rewrites_earlier_turns_is_refused() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}{% endif %}\
        <|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let renderer = toy::renderer(template);
    let thought = "<think>er</think>hi";
    chat(&renderer, &conversation(&[("user", "a"), ("assistant", thought)])).unwrap();
    let error =
        chat(&renderer, &conversation(&[("user", "a"), ("assistant", thought), ("user", "b"), ("assistant", "c")]))
            .unwrap_err();
    assert_eq!(error, RenderError::NotAPrefix { message: 2 });
    assert!(error.to_string().contains("`turns: apart`"), "{error}");
}

#[test]
fn templates_whose_training_would_not_match_use_are_refused_with_the_reason() {
    let refused =
        |template: &str, turns: &[(&str, &str)]| chat(&toy::renderer(template), &conversation(turns)).unwrap_err();
    let turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")];
    // The number of messages stands at the top: no prompt is a prefix.
    let counting = "{{ messages|length }}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}";
    assert!(matches!(refused(counting, &turns), RenderError::PromptNotInTurn { .. }));
    let no_generation_prompt = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}";
    assert_eq!(refused(no_generation_prompt, &turns), RenderError::HeaderNotInPrompt { token: "<|im_start|>".into() });
    let endless = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}\n{% endfor %}";
    assert_eq!(refused(endless, &turns), RenderError::NoEndOfTurn);
    let twice = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}{{ messages[0].content }}";
    assert_eq!(refused(twice, &turns), RenderError::ContentCount { message: 1, role: "user".into(), times: 2 });
    let upper = "{% for m in messages %}{{ m.content|upper }}<|im_end|>{% endfor %}";
    assert_eq!(refused(upper, &turns), RenderError::ContentChanged { message: 1, role: "user".into() });
}

/// As Llama 2 does: contents are trimmed, and spaces stand around the answer, which the model must write.
#[test]
fn text_between_prompt_and_content_is_what_the_model_writes_and_is_trained() {
    let template = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>[ {{ m.content|trim }} ]\
                    {% else %} {{ m.content | trim }} <|im_end|>{% endif %}{% endfor %}";
    let renderer = toy::renderer(template);
    let messages = conversation(&[("user", " hi "), ("assistant", "you\n"), ("user", "hi"), ("assistant", "er")]);
    let rendered = chat(&renderer, &messages).unwrap();
    assert_eq!(trained_text(&renderer, &rendered), [" you <|im_end|>", " er <|im_end|>"]);
    let text = "<|im_start|>[ hi ] you <|im_end|><|im_start|>[ hi ] er <|im_end|>";
    assert_eq!(renderer.tokenizer().decode(&rendered.ids, false), text);
}

#[test]
fn templates_run_as_transformers_runs_them() {
    let template = "{%- set ns = namespace(found=false) -%}
{% for m in messages %}
    {%- if loop.index0 > 6 %}{% break %}{% endif %}
    {% if m['role'].startswith('user') %}
<|im_start|>{{ m.role.upper() }} {{ {'a': '<é>', 'b': [1, 2]} | tojson }}
{{ m.content.strip() }}<|im_end|>
    {% else %}
<|im_start|>{% generation %}{{ m.content }}<|im_end|>{%- endgeneration %}

    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>
{%- endif %}
";
    let renderer = toy::renderer(template);
    let rendered = chat(&renderer, &conversation(&[("user", "<hi>"), ("assistant", "you & er")])).unwrap();
    let text = "<|im_start|>USER {\"a\": \"<é>\", \"b\": [1, 2]}\n<hi><|im_end|>\n<|im_start|>you & er<|im_end|>\n";
    assert_eq!(renderer.tokenizer().decode(&rendered.ids, false), text);
    assert_eq!(trained_text(&renderer, &rendered), ["you & er<|im_end|>"]);
}

#[test]
fn a_failing_template_says_its_line_and_message() {
    let template = "{% if messages|length > 2 %}\n{{ raise_exception('Only two turns, please') }}\n{% endif %}\
                    {% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
    let renderer = toy::renderer(template);
    let turns = conversation(&[("system", "s"), ("user", "a"), ("assistant", "b")]);
    assert_eq!(chat(&renderer, &turns).unwrap_err().to_string(), "chat template, line 2: Only two turns, please");
    let broken = toy::renderer("{% for m in messages %}\n{{ m.content }");
    let error = broken.check_template().unwrap_err().to_string();
    assert!(error.starts_with("chat template, line 2: syntax error"), "{error}");
    // Rows that need no template still render.
    assert_eq!(broken.completion("hi", "").unwrap().ids.len(), 2);
    let none = Renderer::new(Tokenizer::from_gguf(&toy::vocab(None)).unwrap(), None).unwrap();
    assert_eq!(chat(&none, &turns).unwrap_err(), RenderError::NoTemplate);
    assert_eq!(none.end_of_turn(), 2);
}

#[test]
fn documents_stand_between_boundaries_and_are_trained_whole() {
    let renderer = toy::renderer(toy::CHATML);
    let id = |token| renderer.tokenizer().id(token).unwrap();
    let rendered = renderer.text("hi you").unwrap();
    assert_eq!(rendered.ids, [0, id("hi"), id("Ġyou"), 0]);
    assert_eq!(rendered.trained, [false, true, true, true]);
    assert_eq!(renderer.text("").unwrap_err(), RenderError::EmptyText);
    let hi = id("hi");
    let renderer = renderer.with_document_boundary("<s>").unwrap();
    assert_eq!(renderer.text("hi").unwrap().ids, [3, hi, 3]);
    let error = renderer.with_document_boundary("hi").unwrap_err();
    assert_eq!(error, RenderError::UnknownBoundary("hi".into()));
}

#[test]
fn text_that_the_vocabulary_cannot_spell_is_refused_with_its_place() {
    let renderer = toy::renderer(toy::CHATML);
    let error = chat(&renderer, &conversation(&[("user", "é\u{4}"), ("assistant", "b")])).unwrap_err();
    assert_eq!(error, RenderError::Unencodable { place: "message 1 (user)".into(), at: 2, character: '\u{4}' });
    assert!(error.to_string().contains("U+0004 at byte 2"), "{error}");
    for error in [renderer.completion("\u{4}", "").unwrap_err(), renderer.text("\u{4}").unwrap_err()] {
        assert!(matches!(error, RenderError::Unencodable { at: 0, .. }));
    }
}
