"""Writes the tables that `tests/formats.rs` reads: pyarrow's Parquet, Feather and stream of the rows of `chat.jsonl`.

Made with pyarrow 26.0.1. The rows are our own.
usage: python make.py
"""

import datetime
import decimal
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
    # What JSON has no value for, and texts that do not say that they are.
    moment = datetime.datetime(2024, 2, 29, 13, 4, 5, 678000)
    columns = {
        "prompt": pyarrow.array(["é 漢".encode(), b"q"], pyarrow.binary()),
        "reference_answer": pyarrow.array(["a", "b"]),
        "price": pyarrow.array([decimal.Decimal("12345678901234567890.50"), decimal.Decimal("-0.05")], pyarrow.decimal128(30, 2)),
        "day": pyarrow.array([moment.date(), None], pyarrow.date32()),
        "time": pyarrow.array([moment.time(), datetime.time(0)], pyarrow.time64("us")),
        "at": pyarrow.array([moment, datetime.datetime(1969, 7, 20)], pyarrow.timestamp("us")),
        "utc": pyarrow.array([moment, None], pyarrow.timestamp("ms", tz="Europe/Berlin")),
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), HERE / "typed.parquet")
    pyarrow.feather.write_feather(pyarrow.table(columns), HERE / "typed.feather")


if __name__ == "__main__":
    main()
