"""One process of TRL's SFTTrainer over files of rows, two passes; one JSON object a step on standard output.

usage: trl_side.py --base FOLDER --rows FILE... --mode MODE --dtype f32|bf16 --batch B --threads K

Modes:
  padded        B rows a step in one batch, padded to the longest
  grouped       B rows a step in batches of five of like length (`group_by_length`), padded to the longest of each
  padding-free  B rows a step flattened into one sequence
  packed        packed by TRL (best fit decreasing) to the longest row allowed, 256, and flattened; as many packs a step as
                make the number of steps of the others

The last two are meant for attention kernels with variable lengths (FlashAttention), which a CPU does not have. With `sdpa`
transformers makes a mask from the positions in which no row sees another; the losses beside those of `padded` show
whether it did. Rows are tokenised beforehand, the labels are the assistant's words and the end of its turn, all of a text:
what Temper trains. LoRA r 16, alpha 32, on all seven linears, fused AdamW, constant rate; no gradient checkpointing
(TRL's default trades time for memory), no logging, no saving. `bf16` is the Trainer's autocast.

The time of a step is that from `on_step_begin` to `on_step_end`: forward, backward, clipping and AdamW of all its batches,
without fetching and collating them.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}

import datasets  # noqa: E402
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import trl  # noqa: E402

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LONGEST, GROUP = 256, 5
END_OF_TURN, BOUNDARY = "<|im_end|>", "<|endoftext|>"


def tokenised(row, tokenizer):
    """Token ids and labels of a row."""

    def ids_of(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    if "text" in row:
        boundary = tokenizer.convert_tokens_to_ids(BOUNDARY)
        ids = ids_of(row["text"])
        return [boundary, *ids, boundary], [-100, *ids, boundary]
    ids, labels, done = [], [], ""
    render = lambda messages, prompt: tokenizer.apply_chat_template(  # noqa: E731
        messages, tokenize=False, add_generation_prompt=prompt)
    for at, message in enumerate(row["messages"]):
        if message["role"] != "assistant":
            continue
        before = render(row["messages"][:at], True)
        after = before + message["content"] + END_OF_TURN
        prompt, answer = ids_of(before[len(done):]), ids_of(after[len(before):])
        ids += prompt + answer
        labels += [-100] * len(prompt) + answer
        done = after
    rest = ids_of(render(row["messages"], False)[len(done):])
    return ids + rest, labels + [-100] * len(rest)


class Steps(transformers.TrainerCallback):
    """Prints a line a step."""

    def __init__(self):
        self.counted = {"trained_tokens": 0, "processed_tokens": 0, "loss": 0.0}

    def on_step_begin(self, args, state, control, **kwargs):
        self.counted = dict.fromkeys(self.counted, 0)
        self.begun = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        seconds = time.perf_counter() - self.begun
        print(json.dumps({"step": state.global_step, "seconds": seconds, **self.counted}), flush=True)


class Counting(trl.SFTTrainer):
    """The trainer as it is, with its batches counted."""

    def __init__(self, steps, **kwargs):
        super().__init__(**kwargs)
        self.counted_steps = steps
        self.add_callback(steps)
        self.remove_callback(transformers.PrinterCallback)

    def training_step(self, model, inputs, *rest, **kwargs):
        trained, computed = int((inputs["labels"][:, 1:] != -100).sum()), inputs["input_ids"].numel()
        loss = super().training_step(model, inputs, *rest, **kwargs)
        counted = self.counted_steps.counted
        counted["trained_tokens"] += trained
        counted["processed_tokens"] += computed
        counted["loss"] += loss.item()
        return loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--mode", choices=["padded", "grouped", "padding-free", "packed"], required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.base)
    model = transformers.AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32, attn_implementation="sdpa")
    lines = [line for file in args.rows for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [tokenised(json.loads(line), tokenizer) for line in lines]
    assert max(len(ids) for ids, _ in rows) <= LONGEST, "a row is longer than the packs"
    dataset = datasets.Dataset.from_dict({"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]})
    steps_of_a_pass = len(rows) // args.batch

    flat = args.mode in ("padding-free", "packed")
    batch = args.batch
    if args.mode == "packed":
        packs = len(trl.pack_dataset(dataset, LONGEST, "bfd"))
        batch = -(-packs // steps_of_a_pass)
    group = GROUP if args.mode == "grouped" else batch
    with tempfile.TemporaryDirectory() as aside:
        config = trl.SFTConfig(
            output_dir=aside,
            use_cpu=True,
            bf16=args.dtype == "bf16",
            num_train_epochs=2,
            per_device_train_batch_size=group,
            gradient_accumulation_steps=batch // group,
            train_sampling_strategy="group_by_length" if args.mode == "grouped" else "random",
            packing=args.mode == "packed",
            padding_free=flat,
            max_length=None if args.mode == "padding-free" else LONGEST,
            gradient_checkpointing=False,
            optim="adamw_torch_fused",
            learning_rate=2e-4,
            lr_scheduler_type="constant",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            seed=42,
        )
        lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
        trainer = Counting(
            Steps(), model=model, args=config, train_dataset=dataset, processing_class=tokenizer, peft_config=lora)
        trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        versions = {module.__name__: module.__version__ for module in (torch, transformers, peft, trl)}
        print(json.dumps({"about": {"trainable": trained, "versions": versions}}), flush=True)
        trainer.train()


if __name__ == "__main__":
    main()
