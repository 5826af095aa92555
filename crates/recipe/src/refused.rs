//! Keys of other tools that have no counterpart here, each with the reason.

const LATER: &str = "not in this version";

/// Why `key` is not accepted, if it is a key that users of other tools will try.
pub(crate) fn reason(key: &str) -> Option<&'static str> {
    Some(match key {
        "batch_size" | "train_batch_size" => {
            "ambiguous: tools disagree whether it counts one device or all. Use `global_batch_size`: the rows of one \
             optimiser step, all sources together"
        }
        "per_device_train_batch_size"
        | "micro_batch_size"
        | "gradient_accumulation_steps"
        | "grad_accumulation_steps"
        | "gradient_accumulation"
        | "grad_accumulation" => {
            "say `global_batch_size` (rows of one optimiser step) and `micro_batch_tokens` (tokens in memory at once); the \
             number of micro-batches follows"
        }
        "packing" | "sample_packing" | "neat_packing" => "rows are always packed, and never see each other: remove it",
        "train_on_inputs" | "train_on_prompt" | "assistant_only_loss" | "completion_only_loss" | "mask_prompt" => {
            "the rows decide: of `messages` the assistant's turns are trained, of `prompt` and `completion` the completion, of \
             `text` all: remove it"
        }
        "embedding_lr" | "embedding_learning_rate" => {
            "parts of the model have rates of their own by `learning_rates`: write \
             `learning_rates: [{modules: [embed_tokens, lm_head], learning_rate: 1e-5}]`"
        }
        "fp16" | "float16" => {
            "f16 has too small a range to train in without scaling the loss: say `precision: bf16`, which is as small, or \
             remove it"
        }
        "tf32" | "fp8" | "pure_bf16" => {
            "products are f32 or bf16 here, trained weights f32: say `precision`, or remove it"
        }
        "load_in_4bit" | "load_in_8bit" | "quantization_bit" => {
            "nothing is quantised here: start from a GGUF in Q8_0, Q4_0 or Q4_1, whose frozen weights stay as they are by \
             `frozen_weights: as_stored`"
        }
        "rank_pattern" | "alpha_pattern" => LATER,
        "load_best_model_at_end" => "with `validation` a stage always ends with its best weights: remove it",
        "report_to" | "wandb_project" | "logging_steps" => "every step is written to metrics.jsonl: remove it",
        "<<" => "merge keys are not part of YAML 1.2; write the values out, or use an anchor for a whole value",
        _ => return None,
    })
}
