"""One trial of a search: TRL's SFTTrainer with a LoRA, told its values as arguments, telling its metrics as lines of JSON.

What a program must do for `temper tune` is in `docs/tune.md`, and here is all of it: print {"step": .., "eval_loss": ..} after each
evaluation and {"checkpoint": PATH} after each checkpoint; on SIGTERM write a checkpoint and end with 0; go on from --resume.
"""

import argparse
import json
import os
import pathlib
import signal

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

DATA = pathlib.Path(__file__).resolve().parent.parent.parent / "data" / "icd10"


def tell(**record):
    print(json.dumps(record), flush=True)


class Reporter(TrainerCallback):
    """Tells what the search wants to know, and ends when it is asked to."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_):
        self.asked = True

    def on_step_end(self, args, state, control, **_):
        if self.asked:
            control.should_save = control.should_training_stop = True
        return control

    def on_evaluate(self, args, state, control, metrics, **_):
        tell(step=state.global_step, eval_loss=metrics["eval_loss"])

    def on_save(self, args, state, control, **_):
        tell(checkpoint=str(pathlib.Path(args.output_dir) / f"checkpoint-{state.global_step}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--resume", default="", help="a checkpoint to go on from")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--max_steps", type=int, default=48)
    parser.add_argument("--eval_steps", type=int, default=12)
    parser.add_argument("--learning_rate", type=float, default=2e-4)
    parser.add_argument("--lora_r", type=int, default=16)
    parser.add_argument("--lora_alpha", type=float, default=32)
    parser.add_argument("--warmup_steps", type=int, default=5)
    args = parser.parse_args()

    model = os.environ["MODEL"]
    rows = load_dataset("json", data_files={"train": str(DATA / "train.jsonl"), "eval": str(DATA / "validation.jsonl")})
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype="float32"),
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=rows["train"].select_columns(["messages"]),
        eval_dataset=rows["eval"].select(range(64)).select_columns(["messages"]),
        peft_config=LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, target_modules="all-linear"),
        callbacks=[Reporter()],
        args=SFTConfig(
            output_dir=args.output_dir, seed=args.seed, max_steps=args.max_steps, learning_rate=args.learning_rate,
            warmup_steps=args.warmup_steps, lr_scheduler_type="cosine", per_device_train_batch_size=4,
            per_device_eval_batch_size=16, max_length=256, assistant_only_loss=False, gradient_checkpointing=False,
            eval_strategy="steps", eval_steps=args.eval_steps, save_strategy="steps", save_steps=args.eval_steps,
            save_total_limit=1, logging_strategy="no", report_to=[], use_cpu=not os.environ.get("CUDA_VISIBLE_DEVICES"),
            bf16=False, disable_tqdm=True,
        ),
    )
    trainer.train(resume_from_checkpoint=args.resume or None)


if __name__ == "__main__":
    main()
