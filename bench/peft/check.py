"""What a run of Temper wrote, loaded and run by Hugging Face transformers + PEFT.

usage: check.py --base MODEL.gguf --adapter DIR --merged DIR --golden GOLDEN.json [--temper PATH]
`cargo xtask e2e peft` calls it with --base, --golden and --temper; the folders are `adapter/` and `merged/` of one run, which it
makes for each kind of adapter where none is given.

All in f32 on the CPU. `--golden` holds what the reference tool said of the base: `plain` and `chat` (text, input_ids,
loss, top5) and `tokenizer_cases` (text, ids). Each check prints what it compared; all run, then the exit status says
whether one failed.

  tokenizer   the exported tokenizer, loaded as AutoTokenizer does: the golden ids, no token added, end of turn, chat text
  base        the GGUF as transformers dequantises it gives the golden loss and next tokens
  adapter     PEFT finds exactly the tensors it expects, and the adapter does change the model; DoRA's lengths and tables
              that were trained whole (`modules_to_save`) are among them where the adapter's configuration names them
  merged      last-position logits of the merged folder equal those of base + adapter, merged by PEFT and rounded to
              the dtype that the folder stores
  answer      greedy text of `temper generate`, on base + adapter and on the merged folder, equals the peer's
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

# Read by the imports below: everything is a local folder, and progress bars are no report.
os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import peft
import safetensors
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from checks import conclude, report  # noqa: E402

NEW_TOKENS = 32
# The user turn of the golden chat text, which `check_tokenizer` renders to exactly that text.
QUESTION = "What is the capital of France?"


def load_base(gguf):
    gguf = pathlib.Path(gguf).resolve()
    return transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def last_logits(model, ids):
    return model(input_ids=torch.tensor([ids])).logits[0, -1].float()


@torch.no_grad()
def greedy(model, ids, end_of_turn):
    prompt = torch.tensor([ids])
    output = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW_TOKENS, do_sample=False,
        eos_token_id=end_of_turn, pad_token_id=end_of_turn,
    )  # fmt: skip
    new = output[0, len(ids) :].tolist()
    return new[:-1] if new and new[-1] == end_of_turn else new


def check_tokenizer(merged, golden):
    tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
    cases = [(case["text"], case["ids"]) for case in golden["tokenizer_cases"]]
    cases += [(golden[name]["text"], golden[name]["input_ids"]) for name in ("plain", "chat")]
    for text, ids in cases:
        got = tokenizer(text)["input_ids"]
        report("tokenizer", got == ids, f"ids of {text[:40]!r}" + ("" if got == ids else f": expected {ids}, got {got}"))
        report("tokenizer", tokenizer.decode(ids) == text, f"text of the ids of {text[:40]!r}")
    end_of_turn = tokenizer.convert_tokens_to_ids("<|im_end|>")
    report("tokenizer", tokenizer.eos_token_id == end_of_turn, f"eos {tokenizer.eos_token_id} is the end of turn")
    question = [{"role": "user", "content": QUESTION}]
    chat = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    report("tokenizer", chat == golden["chat"]["text"], f"chat template: {chat[-40:]!r}")
    return tokenizer, end_of_turn


@torch.no_grad()
def check_base(base, golden):
    for name in ("plain", "chat"):
        ids = torch.tensor([golden[name]["input_ids"]])
        output = base(input_ids=ids, labels=ids)
        expected, got = golden[name]["loss"], output.loss.item()
        report("base", abs(got - expected) <= 1e-3 * expected, f"{name} loss: expected {expected:.6f}, got {got:.6f}")
        top5 = output.logits[0, -1].topk(5)
        difference = max(abs(value - want[2]) for value, want in zip(top5.values.tolist(), golden[name]["top5"]))
        same = top5.indices.tolist() == [want[0] for want in golden[name]["top5"]]
        report("base", same and difference <= 1e-3, f"{name} next tokens, logits differ by at most {difference:.2g}")


def check_adapter_file(model, adapter):
    with safetensors.safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    expected = {name: tuple(tensor.shape) for name, tensor in peft.get_peft_model_state_dict(model).items()}
    wrong = sorted(set(stored.items()) ^ set(expected.items()))
    report("adapter", not wrong, f"{len(stored)} tensors, names and shapes as PEFT's" + (f": {wrong[:4]}" if wrong else ""))
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    lengths = [name for name in stored if "lora_magnitude_vector" in name]
    layers = sum(name.endswith("lora_A.weight") for name in stored)
    report("adapter", len(lengths) == (layers if config["use_dora"] else 0),
           f"use_dora: {config['use_dora']}, {len(lengths)} vectors of lengths for {layers} adapted modules")  # fmt: skip
    tables = config["modules_to_save"] or []
    found = [name for name in stored if "lora_" not in name]
    named = all(any(f".{table}." in name for name in found) for table in tables) and len(found) == len(tables)
    report("adapter", named, f"modules_to_save: {tables}, whole tensors: {found}")


def stored_dtype(folder):
    """The dtype of the weights in a model folder; more than one is a failure of the check, not of the folder's reader."""
    dtypes = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(path, "pt") as file:
            dtypes |= {file.get_slice(name).get_dtype() for name in file.keys()}
    (dtype,) = dtypes
    return {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[dtype]


def temper_answer(args, prompt, *model):
    """What `temper generate` prints, decoded greedily. `prompt` is its options that give the prompt."""
    command = [args.temper, "generate", *model, *prompt, "--temperature", "0", "--max-new-tokens", str(NEW_TOKENS)]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if run.returncode != 0:
        sys.exit(f"exit status {run.returncode}: {' '.join(command)}")
    return run.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=pathlib.Path, required=True, help="the GGUF that the run started from")
    parser.add_argument("--adapter", type=pathlib.Path, required=True, help="the run's adapter/ folder")
    parser.add_argument("--merged", type=pathlib.Path, required=True, help="the run's merged/ folder")
    parser.add_argument("--golden", type=pathlib.Path, required=True, help="JSON of the reference tool's numbers")
    parser.add_argument("--temper", help="the shipped binary; left out: the greedy answers are not compared")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="largest difference of a logit (default 1e-3)")
    args = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    golden = json.loads(args.golden.read_text(encoding="utf-8"))
    prompts = {name: golden[name]["input_ids"] for name in ("plain", "chat")}

    tokenizer, end_of_turn = check_tokenizer(args.merged, golden)
    base = load_base(args.base)
    check_base(base, golden)
    of_base = {name: last_logits(base, ids) for name, ids in prompts.items()}

    adapted = peft.PeftModel.from_pretrained(base, args.adapter).eval()
    check_adapter_file(adapted, args.adapter)
    for name, ids in prompts.items():
        change = (last_logits(adapted, ids) - of_base[name]).abs().max().item()
        report("adapter", change > 10 * args.tolerance, f"{name} logits move by up to {change:.4f} from the base's")
    answers = {"adapter": {name: greedy(adapted, ids, end_of_turn) for name, ids in prompts.items()}}

    merged, loading = transformers.AutoModelForCausalLM.from_pretrained(
        args.merged, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    merged.eval()
    odd = {kind: keys for kind, keys in loading.items() if keys}
    report("merged", not odd, "no tensor missing, unexpected or misshapen" + (f": {odd}" if odd else ""))
    answers["merged"] = {name: greedy(merged, ids, end_of_turn) for name, ids in prompts.items()}
    dtype = stored_dtype(args.merged)
    unrounded = {name: last_logits(adapted, ids) for name, ids in prompts.items()}
    merged_by_peft = adapted.merge_and_unload()
    for parameter in merged_by_peft.parameters():
        parameter.data = parameter.data.to(dtype).float()
    for name, ids in prompts.items():
        of_merged = last_logits(merged, ids)
        difference = (of_merged - last_logits(merged_by_peft, ids)).abs().max().item()
        report("merged", difference <= args.tolerance,
               f"{name} logits: folder ({dtype}) and PEFT's merge differ by at most {difference:.2g}")  # fmt: skip
        rounding = (of_merged - unrounded[name]).abs().max().item()
        print(f"      merged     {name} logits: folder and unmerged base + adapter differ by at most {rounding:.2g}")

    if args.temper:
        models = {"adapter": ("--base", args.base, "--adapter", args.adapter), "merged": ("--base", args.merged)}
        # Text given to --raw holds no special tokens: they would be read as text. So the chat is given as its question.
        given = {"plain": ("--raw", "--prompt", golden["plain"]["text"]), "chat": ("--prompt", QUESTION)}
        for kind, model in models.items():
            for name in prompts:
                expected = tokenizer.decode(answers[kind][name])
                got = temper_answer(args, given[name], *map(str, model))
                report("answer", got.strip() == expected.strip(), f"{kind}, {name}: {expected!r}"
                       + ("" if got.strip() == expected.strip() else f", temper says {got!r}"))  # fmt: skip
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (torch, transformers, peft))
    conclude(versions)


if __name__ == "__main__":
    main()
