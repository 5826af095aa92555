"""Golden bytes of quantised rows, from the package `gguf` (0.19.0), which holds them against llama.cpp's own:
`quantised.json`.

usage: python make.py        (gguf 0.19.0, numpy 2.4.6)

Row r, column k of the values is a formula in 32-bit integers and f32, see `values`; the first rows are the awkward ones.
"""

import hashlib
import json
import pathlib

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

ROWS, COLS = 64, 96
SCALES = np.array([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0], dtype=np.float32)


def values():
    k = np.arange(ROWS * COLS, dtype=np.uint64)
    drawn = ((k * 2654435769) % (1 << 32)).astype(np.uint32).view(np.int32).astype(np.float32)
    x = (drawn * np.float32(2.0**-31)).reshape(ROWS, COLS) * SCALES[np.arange(ROWS) % 7][:, None]
    columns = np.arange(COLS)
    x[0] = 0
    # Halves, where rounding away from zero and to even differ: the largest is 127, so the scale is 1.
    x[1] = (columns % 32 - 16) * np.float32(0.5)
    x[1, ::32] = 127
    # Equal magnitudes of both signs: the first counts.
    x[2] = np.where(columns % 2 == 0, np.float32(-0.75), np.float32(0.75))
    x[3] = np.where(columns % 32 == 5, np.float32(1e-30), np.float32(0))
    return x


def main():
    golden = {"numpy_f32_sum": float(np.float64(values()).sum()), "types": {}}
    for kind in (T.Q8_0, T.Q4_0, T.F16, T.BF16):
        data = quants.quantize(values(), kind).tobytes()
        width = len(data) // ROWS
        golden["types"][kind.name] = {
            "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(),
            "rows_0_to_4": [data[r * width : (r + 1) * width].hex() for r in range(5)],
        }  # fmt: skip
    path = pathlib.Path(__file__).resolve().parent / "quantised.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
