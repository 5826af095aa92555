//! `temper chat`: talk with a base or an adapter.

use std::io::{BufRead, Write, stdin, stdout};

use temper_model::generate;
use temper_text::Message;

use crate::base::{BaseArgs, SamplingArgs};
use crate::command::{DONE, Failure, Outcome};

/// Talk with a model; /reset begins anew, /exit ends.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    base: BaseArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

pub fn run(args: &Args) -> Outcome {
    let sampling = args.sampling.sampling()?;
    let base = args.base.open()?;
    let model = args.base.load(&base)?;
    let (tokenizer, stops) = (base.renderer.tokenizer(), base.renderer.stop_ids());
    let mut messages: Vec<Message> = Vec::new();
    let mut lines = stdin().lock().lines();
    loop {
        anstream::eprint!("> ");
        let _ = std::io::stderr().flush();
        let Some(line) = lines.next() else { return Ok(DONE) };
        let line = line.map_err(Failure::run)?;
        match line.trim() {
            "" => continue,
            "/exit" => return Ok(DONE),
            "/reset" => {
                messages.clear();
                continue;
            }
            text => messages.push(Message::new("user", text)),
        }
        let prompt = base.renderer.prompt(&messages).map_err(Failure::input)?;
        let (mut ids, mut shown) = (Vec::new(), String::new());
        let mut on_token = |_: usize, token: u32| {
            ids.push(token);
            let text = tokenizer.decode(&ids, true);
            // A character may take several tokens: what is not complete yet waits.
            if !text.ends_with('\u{FFFD}') {
                anstream::print!("{}", text.strip_prefix(&shown).unwrap_or(&text));
                let _ = stdout().flush();
                shown = text;
            }
        };
        let most = args.sampling.max_new_tokens;
        generate(&model, true, &[prompt], most, &stops, &sampling, &mut on_token).map_err(Failure::input)?;
        let answer = tokenizer.decode(&ids, true);
        anstream::println!("{}", answer.strip_prefix(&shown).unwrap_or_default());
        messages.push(Message::new("assistant", answer));
    }
}
