"""Goldens of Mistral's own library: what `mistral-common` makes of the cases of `../chat/cases.json`.

usage: pip install mistral-common==1.13.1 sentencepiece==0.2.3 tiktoken==0.14.0; make.py

Reads the tokenizers that the package carries (Apache-2.0) and writes `ids.json` beside itself. A conversation that ends with
the assistant is encoded as for fine-tuning, another without the rules of the service; what the library refuses is recorded with its reason.
"""

import importlib.metadata
import json
import pathlib

import mistral_common
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.validator import ValidationMode
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(mistral_common.__file__).parent / "data"
# Which template of `../chat/templates` goes with which tokenizer.
TOKENIZERS = {
    "tokenizer.model.v1": "mistral_v1",
    "mistral_instruct_tokenizer_240323.model.v3": "mistral_v3_tekken",
    "tekken_240718.json": "mistral_v3_tekken",
}


def message(given):
    """As OpenAI's interface has it: arguments are JSON. Reasoning has no place in these versions."""
    given = {key: value for key, value in given.items() if key != "reasoning_content"}
    if calls := given.get("tool_calls"):
        dump = lambda f: {**f, "arguments": json.dumps(f["arguments"], ensure_ascii=False)}
        given["tool_calls"] = [{**call, "function": dump(call["function"])} for call in calls]
    return given


def chat(path, case):
    messages = [message(given) for given in case["messages"]]
    ends = messages[-1]["role"] == "assistant"
    mode = ValidationMode.finetuning if ends else ValidationMode.test
    try:
        request = ChatCompletionRequest.from_openai(messages, tools=case.get("tools"))
        return MistralTokenizer.from_file(str(path), mode=mode).encode_chat_completion(request).tokens
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


def specials(tokenizer):
    """The special tokens of a tekken that have a name of their own; the others are `<SPECIAL_id>`."""
    names = [tokenizer.id_to_piece(id) for id in range(tokenizer.num_special_tokens)]
    while names[-1] == f"<SPECIAL_{len(names) - 1}>":
        names.pop()
    return names


def main():
    cases = json.loads((HERE / "../chat/cases.json").read_text())
    made_with = {name: importlib.metadata.version(name) for name in ("mistral-common", "sentencepiece", "tiktoken")}
    found = {}
    for name, template in TOKENIZERS.items():
        tokenizer = MistralTokenizer.from_file(str(DATA / name)).instruct_tokenizer.tokenizer
        found[name] = {
            "template": template,
            "specials": specials(tokenizer) if name.endswith(".json") else [],
            "texts": [tokenizer.encode(text, bos=False, eos=False) for text in cases["texts"]],
            "chats": {case["name"]: chat(DATA / name, case) for case in cases["conversations"]},
        }
    text = json.dumps({"made_with": made_with, "tokenizers": found}, ensure_ascii=False, separators=(",", ":"))
    (HERE / "ids.json").write_text(text + "\n")


main()
