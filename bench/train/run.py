"""Training speed and memory: the shipped `temper` and PyTorch + transformers + PEFT, alternating, in one run.

`cargo xtask bench train` builds the binary, makes the peers' environment and calls this with their paths. Standard
library only. For each mode (LoRA, full rank) the processes run one after the other, Temper, each of PyTorch's modes
(f32 and bf16 autocast, plain and through `torch.compile`), and again, so that a slow spell of the machine meets all of them. The number of a process is the median of its steps
after warm-up, the number of a side is the median of its processes. Memory is the highest RssAnon of the process,
sampled every 20 ms from start to end: pages of mapped weight files, which the kernel may drop, do not count.
CPU time that other work took meanwhile is measured too; a report of a busy machine says so in its first lines.
"""

import argparse
import datetime
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from driver import free_path, heading, peer_versions, run_process  # noqa: E402
from machine import about_machine, about_temper  # noqa: E402

PEERS = ["f32", "f32-compiled", "bf16", "bf16-compiled"]


def sides(mode, args):
    """Name and command of each side, in the order they alternate."""
    shape = ["--steps", str(args.warmup + args.steps), "--batch", str(args.batch), "--length", str(args.length)]
    for precision in args.precisions if args.temper else []:
        yield f"Temper {precision}", [args.temper, "bench", "step", "--mode", mode, "--precision", precision, *shape]
    for peer in args.peers if args.peer_python else []:
        dtype, _, compiled = peer.partition("-")
        torch_side = [args.peer_python, str(HERE / "torch_side.py"), "--mode", mode, "--dtype", dtype, *shape]
        yield f"PyTorch {peer}", [*torch_side, "--threads", str(args.threads), *(["--compile"] if compiled else [])]


def report(results, args, started):
    """The whole report, as Markdown. `results` maps mode -> side -> processes in the order they ran."""
    tokens = args.batch * args.length
    everything = [process for by_side in results.values() for processes in by_side.values() for process in processes]
    busiest = max(process.others_cores for process in everything)
    mapped = max(process.about.get("mapped_bytes", 0) for process in everything)
    out = heading("Training step", started, busiest)
    out += [
        f"- Machine: {about_machine()}.",
        f"- Load average before the first process {everything[0].load_before:.2f}; "
        f"other work took at most {busiest:.2f} cores during any process.",
        f"- Temper: {about_temper(args.temper)}.",
        f"- Peer: {peer_versions(everything)}.",
        f"- Shape: SmolLM2-135M (30 layers), {args.batch} x {args.length} tokens a step, {args.threads} threads, "
        "random weights; LoRA r 16, alpha 32 on all linears; AdamW.",
        f"- {args.rounds} processes a side, alternating; {args.steps} steps each after {args.warmup} for warm-up. "
        "Medians of the steps of a process, then of the processes; in brackets the lowest and highest single step.",
        "- Memory: highest RssAnon of the process, start to end. Temper's frozen weights are mapped from a file, as in a run with "
        f"its cache ({mapped / 2**20:.0f} MiB, in both orders of the products): such pages belong to the system, which may drop "
        "them, and are shared by runs. PyTorch's weights are its own.",
        "- Ratios are PyTorch / Temper for time (above 1: Temper is faster) and Temper / PyTorch for memory "
        "(below 1: Temper needs less); in brackets the lowest and highest of the rounds.",
        "",
    ]
    for mode, by_side in results.items():
        trainable = {process.about["trainable"] for side in by_side.values() for process in side
                     if "trainable" in process.about}
        if len(trainable) > 1:
            sys.exit(f"the sides train different numbers of parameters in mode {mode}: {sorted(trainable)}")
        out += [f"## {'LoRA r 16' if mode == 'lora' else 'Full rank'}"
                + "".join(f" ({count:,} trained parameters)" for count in trainable), ""]
        tempers = [side for side in by_side if side.startswith("Temper")]
        ratios = [f"{what} to {side}" for side in tempers for what in ("time", "memory")]
        heads = ["side", "s/step", "tokens/s", "peak anonymous MiB", *ratios, "loss first -> last"]
        out += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for side, processes in by_side.items():
            steps = [seconds for process in processes for seconds in process.seconds]
            seconds = statistics.median(process.median for process in processes)
            mib = statistics.median(process.peak_anon_bytes for process in processes) / 2**20
            ratios = []
            for temper in (by_side[name] for name in tempers):
                if side in tempers:
                    ratios += ["-", "-"]
                    continue
                times = [peer.median / ours.median for peer, ours in zip(processes, temper)]
                of_times = seconds / statistics.median(process.median for process in temper)
                of_memory = statistics.median(process.peak_anon_bytes for process in temper) / 2**20 / mib
                ratios += [f"{of_times:.2f} ({min(times):.2f}-{max(times):.2f})", f"{of_memory:.2f}"]
            out.append(
                f"| {side} | {seconds:.3f} ({min(steps):.3f}-{max(steps):.3f}) | {tokens / seconds:.1f} | {mib:.0f} "
                f"| {' | '.join(ratios)} | {processes[0].first_loss:.3f} -> {processes[0].last_loss:.3f} |"
            )
        out.append("")
    out += ["## Every process, in the order it ran", "",
            "| mode | side | s of each step after warm-up | peak anonymous MiB | load before | cores taken by others |",
            "|---|---|---|---|---|---|"]
    for mode, by_side in results.items():
        for in_round in zip(*by_side.values()):
            for side, process in zip(by_side, in_round):
                steps = " ".join(f"{seconds:.3f}" for seconds in process.seconds)
                out.append(f"| {mode} | {side} | {steps} | {process.peak_anon_bytes / 2**20:.0f} "
                           f"| {process.load_before:.2f} | {process.others_cores:.2f} |")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temper", help="the shipped binary; left out: the peer alone")
    parser.add_argument("--peer-python", help="Python with PyTorch, transformers and PEFT; left out: Temper alone")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="modes of PyTorch (default: all)")
    parser.add_argument("--precisions", nargs="+", choices=["f32", "bf16"], default=["f32", "bf16"],
                        help="Temper's modes (default: both)")
    parser.add_argument("--modes", nargs="+", choices=["lora", "full"], default=["lora", "full"])
    parser.add_argument("--rounds", type=int, default=3, help="processes a side (default 3)")
    parser.add_argument("--steps", type=int, default=5, help="measured steps a process (default 5)")
    parser.add_argument("--warmup", type=int, default=2, help="steps before them (default 2)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=pathlib.Path, default=HERE.parent / "results", help="folder of the report")
    args = parser.parse_args()
    if min(args.rounds, args.steps, args.batch, args.length, args.threads) < 1 or args.warmup < 0:
        parser.error("--rounds, --steps, --batch, --length and --threads are at least 1, --warmup at least 0")
    if not (args.temper or args.peer_python):
        parser.error("nothing to run: give --temper, --peer-python or both")

    started = datetime.datetime.now()
    results = {}
    for mode in args.modes:
        commands = dict(sides(mode, args))
        results[mode] = {side: [] for side in commands}
        for number in range(1, args.rounds + 1):
            for side, command in commands.items():
                process = run_process(command, args.threads, args.steps, args.warmup)
                results[mode][side].append(process)
                print(f"{mode}, round {number}/{args.rounds}: {side:<12} {process.median:7.3f} s/step, "
                      f"{process.peak_anon_bytes / 2**20:6.0f} MiB, others {process.others_cores:.2f} cores", flush=True)
    text = report(results, args, started)
    path = free_path(args.results, "train", started)
    path.write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {path}")


if __name__ == "__main__":
    main()
