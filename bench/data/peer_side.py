"""One process of `datasets` + `transformers` + TRL's packing: rows of messages to packed ids, one JSON object on stdout.

usage: peer_side.py --tokenizer FOLDER --rows FILE --max-length N --processes P --cache FOLDER

`load_dataset("json")`, then `map` with P processes that renders by the tokenizer's chat template, tokenises, and marks the
assistant's tokens as trained by the prefix of each turn, as trainers without template marks do; rows that are too long are
filtered; TRL's best-fit packing to N tokens. The cache is a fresh folder. Reading the ids back is not counted.
"""

import argparse
import json
import time

import datasets
import transformers
import trl
from trl.data_utils import pack_dataset


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--max-length", type=int, required=True)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--cache", required=True)
    args = parser.parse_args()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.tokenizer)
    datasets.disable_progress_bars()

    def tokenise(batch):
        ids, labels = [], []
        texts = tokenizer.apply_chat_template(batch["messages"], tokenize=False)
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for messages, row in zip(batch["messages"], encoded):
            mask = [0] * len(row)
            for index, message in enumerate(messages):
                if message["role"] == "assistant":
                    before = tokenizer.apply_chat_template(messages[:index], tokenize=True, add_generation_prompt=True, return_dict=False)
                    after = tokenizer.apply_chat_template(messages[: index + 1], tokenize=True, return_dict=False)
                    mask[len(before):len(after)] = [1] * (len(after) - len(before))
            ids.append(row)
            labels.append([token if trained else -100 for token, trained in zip(row, mask)])
        return {"input_ids": ids, "labels": labels}

    start = time.perf_counter()
    rows = datasets.load_dataset("json", data_files=args.rows, split="train", cache_dir=args.cache)
    count = len(rows)
    rows = rows.map(tokenise, batched=True, num_proc=args.processes, remove_columns=rows.column_names)
    rows = rows.filter(lambda batch: [len(ids) <= args.max_length for ids in batch["input_ids"]], batched=True,
                       num_proc=args.processes)
    prepared = time.perf_counter() - start
    packed = pack_dataset(rows, args.max_length, strategy="bfd")
    seconds = time.perf_counter() - start
    tokens = sum(len(ids) for ids in packed["input_ids"])
    trained = sum(label != -100 for labels in packed["labels"] for label in labels)
    versions = {"datasets": datasets.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    print(json.dumps({"about": {"versions": versions}, "rows": count, "kept": len(rows), "tokens": tokens, "trained": trained,
                      "batches": len(packed), "seconds": seconds, "prepare_seconds": prepared,
                      "pack_seconds": seconds - prepared}), flush=True)


if __name__ == "__main__":
    main()
