"""GGUF files that Temper wrote, loaded by others.

usage: check.py --merged DIR --gguf FILE... --temper PATH
`cargo xtask e2e gguf` calls it with the exports of a small run.

`--merged` is the same model in safetensors. For each file: transformers loads it (dequantised) and gives the merged model's
logits, within what its type rounds; and, where llama-cpp-python is installed, llama.cpp gives the same greedy tokens as
Temper over a few prompts and a perplexity within 1 %.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import subprocess
import sys

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from checks import conclude, report  # noqa: E402

PROMPTS = ["What is the capital of France?", "Name three colours.", "The lens of the eye"]
TEXT = (
    "The lens is a transparent biconvex structure in the eye that, along with the cornea, helps to refract light to be "
    "focused on the retina. By changing shape, it functions to change the focal length of the eye so that it can focus on "
    "objects at various distances, thus allowing a sharp real image of the object of interest to be formed on the retina."
)
# Largest difference of a logit, as a share of the largest logit, by type. Measured on SmolLM2-135M: see bench/results.
ALLOWED = {"F32": 1e-5, "BF16": 2e-2, "F16": 2e-3, "Q8_0": 4e-2, "Q4_0": 0.6}


@torch.no_grad()
def logits_of(model, ids):
    return model(input_ids=torch.tensor([ids])).logits[0].float()


def perplexity(logits, ids):
    nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    return math.exp(nll.item())


def temper_answer(temper, model, prompt):
    command = [temper, "generate", "--base", model, "--prompt", prompt, "--temperature", "0", "--max-new-tokens", "24"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def by_llama_cpp(path, tokenizer, temper, ids, own_perplexity):
    import llama_cpp
    import numpy as np

    model = llama_cpp.Llama(str(path), n_ctx=512, logits_all=True, verbose=False, n_threads=2)
    got = model.tokenize(TEXT.encode(), add_bos=False)
    report("llama.cpp", got == ids, f"{path.name}: ids of the text")
    for prompt in PROMPTS:
        chat = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        tokens = model.tokenize(chat.encode(), add_bos=False, special=True)
        out = model.create_completion(tokens, max_tokens=24, temperature=0.0)
        theirs, ours = out["choices"][0]["text"].strip(), temper_answer(temper, path, prompt)
        report("llama.cpp", theirs == ours, f"{path.name}: greedy {prompt!r}: {ours!r}" + ("" if theirs == ours else f", llama.cpp {theirs!r}"))
    model.reset()
    model.eval(ids)
    logits = torch.from_numpy(np.array(model.scores[: len(ids)], dtype=np.float32))
    theirs = perplexity(logits, ids)
    report("llama.cpp", abs(theirs / own_perplexity - 1) < 0.01, f"{path.name}: perplexity {theirs:.4f}, transformers {own_perplexity:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--merged", type=pathlib.Path, required=True)
    parser.add_argument("--gguf", type=pathlib.Path, nargs="+", required=True)
    parser.add_argument("--temper", required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.merged)
    load = transformers.AutoModelForCausalLM.from_pretrained
    merged = load(args.merged, dtype=torch.float32, attn_implementation="eager").eval()
    ids = tokenizer(TEXT)["input_ids"]
    expected = logits_of(merged, ids)
    print(f"      merged     perplexity {perplexity(expected, ids):.4f}")
    has_llama = importlib.util.find_spec("llama_cpp") is not None
    for path in args.gguf:
        kind = path.stem.rsplit("-", 1)[-1]
        model = load(path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager").eval()
        got = logits_of(model, ids)
        difference = ((got - expected).abs().max() / expected.abs().max()).item()
        own = perplexity(got, ids)
        report("gguf", difference <= ALLOWED[kind], f"{kind}: logits differ by at most {difference:.2g} of the largest, perplexity {own:.4f}")
        theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        report("gguf", theirs(TEXT)["input_ids"] == ids, f"{kind}: transformers reads the tokenizer's metadata to the same ids")
        if has_llama:
            by_llama_cpp(path, tokenizer, args.temper, ids, own)
    if not has_llama:
        print("      llama.cpp  not checked: llama-cpp-python is not installed")
    conclude(json.dumps({m.__name__: m.__version__ for m in (torch, transformers)}))


if __name__ == "__main__":
    main()
