//! `temper chat`: talk with a base or an adapter.

use std::io::{Write, stderr, stdin};
use std::ops::ControlFlow;

use temper_model::generate;
use temper_text::Message;

use crate::base::{BaseArgs, SamplingArgs};
use crate::command::{DONE, Failure, Outcome, print, tell};
use crate::interrupt::Answering;
use crate::stream::TextStream;

/// Talk with a model; /reset begins anew, /exit ends, Ctrl-C ends an answer.
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
    args.base.check_template(&base)?;
    let model = args.base.load(&base)?;
    let (tokenizer, stops) = (base.renderer.tokenizer(), base.renderer.stop_ids());
    let mut messages: Vec<Message> = Vec::new();
    let mut lines = stdin().lines();
    loop {
        let _ = write!(stderr(), "> ").and_then(|()| stderr().flush());
        let Some(line) = lines.next() else { return Ok(DONE) };
        let line = line.map_err(Failure::input)?;
        match line.trim() {
            "" => continue,
            "/exit" => return Ok(DONE),
            "/reset" => {
                messages.clear();
                continue;
            }
            text => messages.push(Message::new("user", text)),
        }
        let answering = Answering::begin();
        let (mut stream, mut answer, mut printed) = (TextStream::new(tokenizer), String::new(), Ok(()));
        let mut on_token = |_, token, _| {
            let piece = stream.push(token);
            answer.push_str(&piece);
            printed = print(piece);
            if printed.is_err() || answering.interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let most = args.sampling.max_new_tokens;
        let asked = match base.renderer.prompt(&messages) {
            Ok(prompt) => generate(&model, true, &[prompt], most, &stops, &sampling, &mut on_token)
                .map(|_| ())
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        printed?;
        if let Err(error) = asked {
            // The talk goes on without the message that could not be answered.
            tell(format_args!("error: {error}\nhint: /reset begins anew"));
            messages.pop();
            continue;
        }
        let rest = stream.rest();
        print(format_args!("{rest}\n"))?;
        messages.push(Message::new("assistant", answer + &rest));
    }
}
