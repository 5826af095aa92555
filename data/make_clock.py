#!/usr/bin/env python3
"""Makes clock/*.jsonl: what time it is some minutes after another time, and checks what is committed.

    python3 data/make_clock.py all       write every file
    python3 data/make_clock.py check     assert every rule on the committed files

Standard library only. Every question there is occurs once at most; which file it is in goes by its SHA-256, as
`make.py` orders.
"""
import argparse
import collections
import pathlib
import re

from make import HERE, ordered, read, write

SYSTEM = "Tell the time."
STEP, LONGEST = 5, 90  # minutes: all times and durations are multiples of the first
SIZES = {"test": 500, "validation": 100, "sft": 200, "rft": 1700}


def reading(minutes):
    """On the face of a clock with twelve hours: 0 and 720 minutes are 12:00."""
    return f"{(minutes // 60 - 1) % 12 + 1}:{minutes % 60:02}"


def files():
    facts = [(start, after) for start in range(0, 720, STEP) for after in range(STEP, LONGEST + 1, STEP)]
    facts = ordered(facts, "clock")
    rows = {}
    for name, count in SIZES.items():
        picked, facts = facts[:count], facts[count:]
        asked = [[{"role": "system", "content": SYSTEM},
                  {"role": "user", "content": f"{reading(start)} plus {after} minutes"}] for start, after in picked]
        answers = [reading(start + after) for start, after in picked]
        if name in ("sft", "validation"):
            stem = "sft" if name == "sft" else "sft_validation"
            rows[stem] = [{"messages": turns + [{"role": "assistant", "content": answer}]}
                          for turns, answer in zip(asked, answers)]
        if name != "sft":
            rows[name] = [{"id": f"{name}-{i}", "messages": turns, "reference_answer": answer}
                          for i, (turns, answer) in enumerate(zip(asked, answers))]
    return rows


def check():
    seen = {}
    for path in sorted((HERE / "clock").glob("*.jsonl")):
        rows, answers = read(path), collections.Counter()
        split = path.stem.removeprefix("sft_")
        assert len(rows) == SIZES[split], f"{path.stem}: {len(rows)} rows"
        for row in rows:
            turns = row["messages"]
            answer = row["reference_answer"] if "reference_answer" in row else turns.pop()["content"]
            assert [m["role"] for m in turns] == ["system", "user"] and turns[0]["content"] == SYSTEM, row
            question = turns[1]["content"]
            hour, minute, after = map(int, re.fullmatch(r"(\d+):(\d\d) plus (\d+) minutes", question).groups())
            assert 1 <= hour <= 12 and minute < 60 and 0 < after <= LONGEST, row
            assert minute % STEP == after % STEP == 0 and answer == reading(hour * 60 + minute + after), row
            assert seen.setdefault(question, split) == split, f"{question}: in {split} and {seen[question]}"
            answers[answer] += 1
        assert len({row["messages"][1]["content"] for row in rows}) == len(rows), f"{path.stem}: one twice"
        (best, times), = answers.most_common(1)
        print(f"clock/{path.stem}: {len(rows)} rows, {len(answers)} different answers; always answering {best} is "
              f"right {times} times ({100 * times / len(rows):.1f} %)")
    print("all rules hold")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "check"))
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="where to write (default: beside this script)")
    args = parser.parse_args()
    if args.command == "all":
        for stem, rows in files().items():
            write(args.out, f"clock/{stem}.jsonl", rows)
    check()


if __name__ == "__main__":
    main()
