"""The peer's side of `bench/generate/run.py`: llama.cpp by the low-level API of llama-cpp-python.

Reads prompts (token ids) from a JSON file {"1": [[...]], "32": [[...], ...]}, writes one JSON line a measurement, like
`temper bench generate --json`. Sequences are decoded together, one `llama_decode` a step, and each takes its likeliest token.
"""

import argparse
import importlib.metadata
import json
import time

import llama_cpp
import numpy


def fill(batch, tokens):
    """Puts (token, position, sequence, wants logits) into a batch."""
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, position
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        batch.logits[i] = wanted


def decode(context, batch, tokens):
    fill(batch, tokens)
    status = llama_cpp.llama_decode(context, batch)
    if status != 0:
        raise SystemExit(f"llama_decode: status {status}")


def likeliest(context, rows, vocabulary):
    """The likeliest token of each row of the batch that asked for logits."""
    at = (numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), shape=(vocabulary,)) for row in rows)
    return [int(logits.argmax()) for logits in at]


def measure(context, batch, prompts, new, chunk, vocabulary):
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    begin = time.perf_counter()
    everything = [(token, position, sequence, position == len(prompt) - 1)
                  for sequence, prompt in enumerate(prompts) for position, token in enumerate(prompt)]
    tokens = []
    for start in range(0, len(everything), chunk):
        part = everything[start:start + chunk]
        decode(context, batch, part)
        tokens += likeliest(context, [i for i, (*_, wanted) in enumerate(part) if wanted], vocabulary)
    prompt_seconds = time.perf_counter() - begin
    first = [tokens[0]]
    for step in range(new - 1):
        decode(context, batch, [(token, len(prompts[s]) + step, s, True) for s, token in enumerate(tokens)])
        tokens = likeliest(context, range(len(tokens)), vocabulary)
        first.append(tokens[0])
    seconds = time.perf_counter() - begin - prompt_seconds
    return {"streams": len(prompts), "prompt_seconds": prompt_seconds, "seconds": seconds,
            "tokens": len(prompts) * (new - 1), "first": first}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--new", type=int, required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    with open(args.prompts, encoding="utf-8") as file:
        by_streams = json.load(file)

    llama_cpp.llama_backend_init()
    quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(quiet, None)
    model = llama_cpp.llama_model_load_from_file(args.model.encode(), llama_cpp.llama_model_default_params())
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    about = {"versions": {"llama-cpp-python": importlib.metadata.version("llama-cpp-python")},
             "system": llama_cpp.llama_print_system_info().decode()}
    print(json.dumps({"about": about}), flush=True)
    for streams, prompts in by_streams.items():
        parameters = llama_cpp.llama_context_default_params()
        longest = max(map(len, prompts)) + args.new
        parameters.n_ctx = len(prompts) * ((longest + 255) // 256 * 256)
        parameters.n_seq_max = len(prompts)
        parameters.n_threads = parameters.n_threads_batch = args.threads
        chunk = parameters.n_batch
        context = llama_cpp.llama_init_from_model(model, parameters)
        batch = llama_cpp.llama_batch_init(chunk, 0, 1)
        for run in range(1 + args.runs):
            measured = measure(context, batch, prompts, args.new, chunk, vocabulary)
            if run > 0:
                print(json.dumps(measured), flush=True)
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)


if __name__ == "__main__":
    main()
