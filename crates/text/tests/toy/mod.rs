//! A vocabulary small enough to read: all bytes, a few merges, ChatML's special tokens.

use temper_text::{GgufVocab, Renderer, Tokenizer};

/// ChatML with a default system message, in the form that SmolLM2 and Qwen2.5 use.
#[allow(dead_code, reason = "shared by test binaries that do not all use it")]
pub const CHATML: &str = "{% for message in messages %}\
{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind<|im_end|>\n' }}{% endif %}\
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Ids: 0 `<|endoftext|>`, 1 `<|im_start|>`, 2 `<|im_end|>`, 3 `<s>`, then the bytes, then the merges.
pub fn vocab(template: Option<&str>) -> GgufVocab {
    let mut tokens: Vec<String> = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"].map(str::to_owned).to_vec();
    let mut next = 0x100;
    for byte in 0..=255u8 {
        let shown = if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap()
        };
        // Like SmolLM2, without a token for the control character U+0004.
        if byte != 4 {
            tokens.push(shown.to_string());
        }
    }
    let merges = ["Ċ Ċ", "h i", "e r", "Ġ y", "Ġy o", "Ġyo u", "i m", "u s", "us er"];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let token_types = (0..tokens.len()).map(|id| if id < 4 { 3 } else { 1 }).collect();
    GgufVocab {
        model: "gpt2".into(),
        pre: "smollm".into(),
        tokens,
        token_types,
        merges: merges.map(str::to_owned).to_vec(),
        scores: Vec::new(),
        add_space_prefix: false,
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        pad_id: Some(2),
        add_bos: false,
        chat_template: template.map(str::to_owned),
    }
}

#[allow(dead_code, reason = "shared by test binaries that do not all render")]
pub fn renderer(template: &str) -> Renderer {
    Renderer::new(Tokenizer::from_gguf(&vocab(Some(template))).unwrap(), None).unwrap()
}

/// A SentencePiece vocabulary that writes a space before text; without the bytes of `missing`.
#[allow(dead_code, reason = "shared by test binaries that do not all use it")]
pub fn sentence_piece(missing: &[u8]) -> GgufVocab {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    let bytes = (0..=255u8).filter(|byte| !missing.contains(byte));
    tokens.extend(bytes.map(|byte| format!("<0x{byte:02X}>")));
    let byte_tokens = 3..tokens.len();
    tokens.extend(["▁", "h", "i", "é", "hi", "▁hi", "▁▁"].map(str::to_owned));
    let mut token_types = vec![1; tokens.len()];
    token_types[..3].copy_from_slice(&[2, 3, 3]);
    token_types[byte_tokens].fill(6);
    GgufVocab {
        model: "llama".into(),
        scores: (0..tokens.len()).map(|id| -(id as f32)).collect(),
        tokens,
        token_types,
        bos_id: Some(1),
        eos_id: Some(2),
        unk_id: Some(0),
        add_bos: true,
        add_space_prefix: true,
        ..GgufVocab::default()
    }
}
