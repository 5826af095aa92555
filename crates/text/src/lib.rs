//! Tokenizer, chat template, rendering: messages to tokens and what is trained.
