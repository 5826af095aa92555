"""One process of `datasets` + `transformers` + TRL's packing: rows of messages to packed ids, one JSON object on stdout.

usage: peer_side.py --tokenizer FOLDER --rows FILE --max-length N --processes P --cache FOLDER

`load_dataset("json")`, then `map` with P processes that renders by the tokenizer's chat template and tokenises a thousand rows at
once; rows that are too long are filtered; TRL's best-fit packing to N tokens. The cache is a fresh folder. What is trained is not
marked, which Temper does: the template has no marks for it, and finding it by rendering each turn again, as trainers do, takes
this side many times as long. Reading the ids back is not counted.
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
        texts = tokenizer.apply_chat_template(batch["messages"], tokenize=False)
        return {"input_ids": tokenizer(texts, add_special_tokens=False)["input_ids"]}

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
    versions = {"datasets": datasets.__version__, "transformers": transformers.__version__, "trl": trl.__version__}
    print(json.dumps({"about": {"versions": versions}, "rows": count, "kept": len(rows), "tokens": tokens, "trained": None,
                      "batches": len(packed), "seconds": seconds, "prepare_seconds": prepared,
                      "pack_seconds": seconds - prepared}), flush=True)


if __name__ == "__main__":
    main()
