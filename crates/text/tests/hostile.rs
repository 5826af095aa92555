//! Templates that would take all memory: a template is a program that came with a model. Each is run in a process that may take
//! little, and ends in a text or an error, never in an abort.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod toy;

use std::process::Command;

use temper_text::{Conversation, Message, Renderer, Tokenizer};

/// What a process may take in all, its program and threads among it.
const ADDRESS_SPACE_MIB: usize = 1280;

/// Run by the test below, each time in a process of its own: renders by the template in `TEMPER_TEMPLATE`. By itself it renders by
/// one that is none of these.
#[test]
fn render_one_template() {
    let harm = std::env::var("TEMPER_TEMPLATE").unwrap_or_default();
    let turns = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let template = format!(
        "{turns}{{% if messages[0].content == 'go' %}}{{% set ns = namespace(x='ab', l=[1]) %}}{harm}{{% endif %}}"
    );
    let renderer = Renderer::new(Tokenizer::from_gguf(&toy::vocab(Some(&template))).unwrap(), None).unwrap();
    let conversation = Conversation::new(vec![Message::new("user", "go")]);
    match renderer.chat_text(&conversation, false) {
        Ok(text) => println!("\nRESULT text of {} bytes", text.len()),
        Err(error) => println!("\nRESULT error {}", error.to_string().replace('\n', " ")),
    }
}

/// What became of a template.
fn render(harm: &str) -> String {
    let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", ADDRESS_SPACE_MIB << 10);
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "render_one_template", "--nocapture", "--test-threads", "1"])
        .env("TEMPER_TEMPLATE", harm)
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let result = said.lines().find_map(|line| line.strip_prefix("RESULT ")).map(str::to_owned);
    result.unwrap_or_else(|| panic!("{harm}: {}: {said}\n{errors}", output.status))
}

/// What a template built was limited in steps alone.
#[test]
fn a_template_cannot_take_all_memory() {
    assert_eq!(render("{{ ns.l }}"), "text of 33 bytes");
    for harm in [
        // Texts that double.
        "{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
        "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('ab') }}",
        "{% set y %}{% for i in range(50000) %}{% for j in range(50000) %}{{ 'a' * 999 }}{% endfor %}{% endfor %}{% endset %}",
        "{% for i in range(50000) %}{% for j in range(50000) %}{{ 'a' * 9999 }}{% endfor %}{% endfor %}",
        // Lists that hold one another twice: small to keep, endless to print.
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}",
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|tojson }}",
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|string }}",
        "{% for i in range(60) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l|tojson(indent=4) }}",
        "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l|join }}",
        // One call.
        "{{ 'a' * 99999999999 }}",
        "{{ ('a' * 9999999) * 99999 }}",
        "{{ [1]|tojson(indent=99999999999) }}",
        "{{ ', '.join(['a' * 999999] * 9999999) }}",
        "{{ ('a' * 99999).join(['a'] * 9999999) }}",
        "{{ (['a' * 999999] * 9999999)|join(', ') }}",
        "{{ (['a' * 999999] * 9999999)|join }}",
        "{{ ('a ' * 9999999).split()|length }}",
        "{{ ('a ' * 9999999).split(' ')|length }}",
        "{{ ('a ' * 9999999).rsplit('a')|length }}",
        "{{ ('\\n' * 99999999).splitlines()|length }}",
        "{{ ('a' * 999999).replace('a', 'b' * 999999) }}",
        "{{ 'a'|replace('', 'b' * 99999999)|replace('b', 'c' * 99999999) }}",
        "{{ ('a\\n' * 9999)|indent(99999999) }}",
        "{{ '%99999999999d'|format(1) }}",
        "{{ '{:>99999999999}'.format('a') }}",
        "{{ '{:>{}}'.format('a', 99999999999) }}",
        "{{ strftime_now('%999999999Y') }}",
        "{{ ([0] * 99999999)|list|length }}",
        "{{ ([[0] * 9999999] * 9999999)|tojson }}",
        "{{ range(99999999999)|list }}",
    ] {
        let result = render(harm);
        assert!(result.starts_with("error "), "{harm}: {result}");
    }
}

/// A value that holds itself, or lies thousands of levels deep, would take the stack where it is printed.
#[test]
fn a_template_cannot_take_the_stack_by_printing() {
    for harm in [
        "{% set ns.a = ns %}{{ ns }}",
        "{% set ns.a = ns %}{{ ns|tojson }}",
        "{% for i in range(2000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{% for i in range(2000) %}{% set ns.l = {'a': ns.l} %}{% endfor %}{{ ns.l|tojson }}",
    ] {
        let result = render(harm);
        assert!(result.starts_with("error ") && result.contains("nested deeper than 128"), "{harm}: {result}");
    }
}
