"""Writes the tables that `tests/formats.rs` reads: pyarrow's Parquet, Feather and stream of the rows of `chat.jsonl`.

Made with pyarrow 26.0.1. The rows are our own.
usage: python make.py
"""

import json
import pathlib

import pyarrow
import pyarrow.feather
import pyarrow.parquet

HERE = pathlib.Path(__file__).resolve().parent

ROWS = [
    {"id": n, "messages": [{"role": "user", "content": f"Wie geht es {who}?"}, {"role": "assistant", "content": answer}]}
    for n, (who, answer) in enumerate([("dir", "Gut.\n\"Danke\"!"), ("é 漢 🙂", ""), ("uns", "ja " * 40)])
]


def main():
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    (HERE / "chat.jsonl").write_text(lines, encoding="utf-8")
    table = pyarrow.Table.from_pylist(ROWS)
    pyarrow.parquet.write_table(table, HERE / "chat.parquet", compression="snappy")
    # Dictionaries, small groups, other types of text and list.
    large = pyarrow.schema([
        ("id", pyarrow.int32()),
        ("messages", pyarrow.large_list(pyarrow.struct([("role", pyarrow.large_string()), ("content", pyarrow.large_string())]))),
    ])
    pyarrow.parquet.write_table(table.cast(large), HERE / "chat-zstd.parquet", compression="zstd", row_group_size=2)
    pyarrow.feather.write_feather(table, HERE / "chat.feather", compression="lz4")
    with pyarrow.OSFile(str(HERE / "chat-stream.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


if __name__ == "__main__":
    main()
