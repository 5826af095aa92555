"""Random blocks of quantised formats and what the `gguf` package decodes them to: python make.py (writes blocks.json)

Every byte is drawn, but for the exponents of the f16 scales, which stay finite. Values are given by their bits.
"""

import json
from pathlib import Path

import gguf
import numpy

# Bytes at which a block holds an f16.
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q4_K": [0, 2], "Q6_K": [208]}

draw = numpy.random.default_rng(0)
found = {}
for name, halves in HALVES.items():
    kind = gguf.GGMLQuantizationType[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = draw.integers(0, 256, (512 // values, size), dtype=numpy.uint8)
    for half in halves:
        # Sign and mantissa as drawn, exponent from 2^-11 to 2^-4.
        blocks[:, half + 1] = blocks[:, half + 1] & 0x83 | draw.integers(4, 12, len(blocks), dtype=numpy.uint8) << 2
    decoded = gguf.dequantize(blocks.reshape(-1), kind).astype(numpy.float32)
    found[name] = dict(bytes=blocks.reshape(-1).tolist(), bits=decoded.view(numpy.uint32).reshape(-1).tolist())
(Path(__file__).parent / "blocks.json").write_text(json.dumps(found) + "\n")
