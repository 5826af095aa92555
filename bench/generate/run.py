"""Generation speed: the shipped `temper` and llama.cpp with the same weights, alternating, in one run.

`cargo xtask bench generate` builds the binary, makes the peer's environment (llama.cpp built from source for this machine)
and calls this with their paths. Standard library only. Both sides get the same prompts of random tokens and write the same
number of new tokens, greedily and without stops. Prompts end when every sequence has its first token; the rate is that of
the tokens after that. A side's number is the median of all its measurements.
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path, heading, run_side  # noqa: E402
from machine import about_machine, about_temper  # noqa: E402


def temper_side(args):
    command = [args.temper, "bench", "generate", "--json", "--base", args.model, "--prompt", str(args.prompt)]
    streams = ",".join(map(str, args.streams))
    return [*command, "--new", str(args.new), "--runs", str(args.runs), "--streams", streams]


def peer_side(args, prompts):
    command = [args.peer_python, str(HERE / "llama_side.py"), "--model", args.model, "--prompts", str(prompts)]
    return [*command, "--new", str(args.new), "--runs", str(args.runs), "--threads", str(args.threads)]


class Side:
    """All that one side wrote."""

    def __init__(self):
        self.about, self.prompts, self.measured, self.peak, self.others = {}, {}, {}, 0, 0.0

    def add(self, records, taken):
        self.peak = max(self.peak, taken.peak_anon_bytes)
        self.others = max(self.others, taken.others_cores)
        for record in records:
            self.about |= record.get("about", {})
            if "prompts" in record:
                self.prompts[record["streams"]] = record["prompts"]
            elif "seconds" in record:
                self.measured.setdefault(record["streams"], []).append(record)

    def rates(self, streams):
        return [record["tokens"] / record["seconds"] for record in self.measured[streams]]

    def median(self, streams, of):
        return statistics.median(map(of, self.measured[streams]))


def alike(ours, peers):
    """Leading tokens that two sequences have in common."""
    return next((i for i, (a, b) in enumerate(zip(ours, peers)) if a != b), min(len(ours), len(peers)))


def report(temper, peer, args, started):
    busiest = max(temper.others, peer.others)
    out = heading("Generation", started, busiest)
    versions = ", ".join(f"{name} {version}" for name, version in peer.about["versions"].items())
    peak = temper.about["peak_gflops"]
    out += [
        f"- Machine: {about_machine()}.",
        f"- Other work took at most {busiest:.2f} cores during any process.",
        f"- Temper: {about_temper(args.temper)}; {temper.about['device']}; {peak:.0f} GFLOP/s measured peak of products.",
        f"- Peer: {versions}, built from source here, Python {platform.python_version()}; {peer.about['system'].strip()}",
        f"- Weights: {pathlib.Path(args.model).name}, {temper.about['weight_bytes'] / 1e6:.1f} MB as stored, on both sides. "
        f"{args.threads} threads.",
        f"- One stream: a prompt of {args.prompt} tokens. More: lengths evenly spread from {args.prompt // 4} to "
        f"{args.prompt}. {args.new} new tokens each, greedy, no stops.",
        f"- {args.rounds} processes a side, alternating, {args.runs} measurements each after one to warm up. Medians; in "
        "brackets the lowest and highest.",
        "- Peak memory is the highest RssAnon of the process, all measurements; the peer maps its weights, which do not count."
        if not args.prefix else "- Memory was not measured: the processes ran behind a prefix.",
        "",
        "| streams | side | tokens/s | ratio | ms a step | prompts s | GFLOP/s | share of peak | GB/s of weights |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for streams in args.streams:
        theirs = statistics.median(peer.rates(streams))
        for name, side in (("Temper", temper), ("llama.cpp", peer)):
            rates = side.rates(streams)
            rate = statistics.median(rates)
            cells = [streams, name, f"{rate:.1f} ({min(rates):.1f}-{max(rates):.1f})",
                     f"{rate / theirs:.2f}" if side is temper else "-", f"{1e3 * streams / rate:.2f}",
                     f"{side.median(streams, lambda r: r['prompt_seconds']):.3f}"]
            if side is temper:
                gflops = side.median(streams, lambda r: r["flops"] / r["seconds"] / 1e9)
                cells += [f"{gflops:.0f}", f"{100 * gflops / peak:.0f} %",
                          f"{side.median(streams, lambda r: r['weight_bytes'] / r['seconds'] / 1e9):.1f}"]
            else:
                cells += ["-"] * 3
            out.append("| " + " | ".join(map(str, cells)) + " |")
    if not args.prefix:
        out += ["", f"Peak memory: Temper {temper.peak / 2**20:.0f} MiB, llama.cpp {peer.peak / 2**20:.0f} MiB."]
    out.append("")
    for streams in args.streams:
        ours, peers = temper.measured[streams][0]["first"], peer.measured[streams][0]["first"]
        out.append(f"Of {streams}, the first sequence: {alike(ours, peers)} of {len(ours)} tokens alike before the first "
                   "difference (the peer rounds activations to 8 bits).")
    out += ["", "| streams | side | tokens/s of every measurement, in the order they ran |", "|---|---|---|"]
    for streams in args.streams:
        for name, side in (("Temper", temper), ("llama.cpp", peer)):
            out.append(f"| {streams} | {name} | {' '.join(f'{rate:.1f}' for rate in side.rates(streams))} |")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", required=True, help="the shipped binary")
    parser.add_argument("--peer-python", required=True, help="Python with llama-cpp-python")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of the longest prompt (default 64)")
    parser.add_argument("--new", type=int, default=64, help="new tokens of each sequence (default 64)")
    parser.add_argument("--rounds", type=int, default=5, help="processes a side (default 5)")
    parser.add_argument("--runs", type=int, default=1, help="measurements a process (default 1)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefix", nargs="+", default=[], help="a command that runs each process, as `taskset` does")
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results", help="folder of the report")
    args = parser.parse_args()
    if min(args.rounds, args.runs, args.threads, *args.streams) < 1 or args.prompt < 4 or args.new < 2:
        parser.error("--rounds, --runs, --threads and --streams are at least 1, --prompt at least 4, --new at least 2")

    started = datetime.datetime.now()
    temper, peer = Side(), Side()
    with tempfile.TemporaryDirectory() as folder:
        prompts = pathlib.Path(folder, "prompts.json")
        for number in range(1, args.rounds + 1):
            temper.add(*run_side([*args.prefix, *temper_side(args)], args.threads))
            prompts.write_text(json.dumps(temper.prompts), encoding="utf-8")
            peer.add(*run_side([*args.prefix, *peer_side(args, prompts)], args.threads))
            for streams in args.streams:
                ours, theirs = (statistics.median(side.rates(streams)) for side in (temper, peer))
                print(f"round {number}/{args.rounds}: {streams} streams, Temper {ours:.1f}, llama.cpp {theirs:.1f} tokens/s",
                      flush=True)
    text = report(temper, peer, args, started)
    path = free_path(args.results, "generate", started)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path}")


if __name__ == "__main__":
    main()
