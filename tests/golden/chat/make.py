"""Goldens of chat templates and tokenizers: what `transformers` and `tokenizers` make of `cases.json`.

usage: make.py ASSETS

ASSETS holds what `cargo xtask asset-path tokenizers` fetched: templates that are not committed and `tokenizer.json` files.
Writes `rendered.json` and `ids.json` beside itself.
"""

import datetime
import json
import pathlib
import sys

import tokenizers
import transformers
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template


class Fixed(datetime.datetime):
    @classmethod
    def now(cls):
        """The day on which all templates are rendered: 2 January 2026."""
        return cls(2026, 1, 2)


chat_template_utils.datetime = Fixed

HERE = pathlib.Path(__file__).parent
# The special tokens that a template names; elsewhere they are Llama's.
TOKENS = {
    "gemma": ("<bos>", "<eos>"),
    "gemma3": ("<bos>", "<end_of_turn>"),
    "deepseek_v2": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "deepseek_v3_1": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "deepseekv3": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "deepseek_r1_distill": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    "llama3": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama3_1": ("<|begin_of_text|>", "<|eot_id|>"),
    "llama3_2": ("<|begin_of_text|>", "<|eot_id|>"),
    "phi3": ("<s>", "<|endoftext|>"),
    "phi3_5": ("<s>", "<|endoftext|>"),
    "qwen2_5": (None, "<|im_end|>"),
    "qwq": (None, "<|im_end|>"),
    "smollm3": (None, "<|im_end|>"),
    "qwen3": (None, "<|im_end|>"),
    "qwen3_instruct_2507": (None, "<|im_end|>"),
    "gptoss": ("<|startoftext|>", "<|return|>"),
}
# Which template goes with which tokenizer.
CHATS = {
    "qwen3": "qwen3",
    "deepseek_v3": "deepseekv3",
    "llama2": "llama2",
    "llama3_1": "llama3_1",
    "gemma3": "gemma3",
}


def render(template, tokens, case, form, generation):
    """The text, or None where the template raises. `form` says how a turn without content calls tools."""
    messages = []
    for message in case["messages"]:
        message = dict(message)
        if calls := message.get("tool_calls"):
            if form["arguments"] == "json":
                dump = lambda f: {**f, "arguments": json.dumps(f["arguments"], ensure_ascii=False)}
                message["tool_calls"] = [{**call, "function": dump(call["function"])} for call in calls]
            if not message["content"]:
                if form["content"] == "missing":
                    del message["content"]
                elif form["content"] == "none":
                    message["content"] = None
        messages.append(message)
    named = {name: token for name, token in zip(("bos_token", "eos_token"), tokens) if token}
    try:
        (text,), _ = render_jinja_template(
            [messages], tools=case.get("tools"), chat_template=template, add_generation_prompt=generation, **named
        )
    except Exception:
        return None
    return text


FORMS = [
    {"content": content, "arguments": arguments}
    for arguments in ("object", "json")
    for content in ("text", "missing", "none")
]


def call_form(template, tokens):
    """The first form in which the template prints a call."""
    call = {"id": "abcdef123", "type": "function", "function": {"name": "NAME", "arguments": {"key": "VALUE"}}}
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    case = {"messages": [{"role": "user", "content": "a"}, turn]}
    for form in FORMS:
        text = render(template, tokens, case, form, False)
        if text and "NAME" in text and "VALUE" in text:
            return form
    return FORMS[0]


def main():
    (assets,) = map(pathlib.Path, sys.argv[1:])
    cases = json.loads((HERE / "cases.json").read_text())
    made_with = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    templates = {path.stem: path.read_text() for path in sorted(HERE.glob("templates/*.jinja"))}
    templates |= {path.stem: path.read_text() for path in sorted(assets.glob("templates/*.jinja"))}
    rendered = {}
    for name, template in templates.items():
        tokens = TOKENS.get(name, ("<s>", "</s>"))
        form = call_form(template, tokens)
        texts = {
            case["name"]: [render(template, tokens, case, form, generation) for generation in (False, True)]
            for case in cases["conversations"]
        }
        rendered[name] = {"bos_token": tokens[0], "eos_token": tokens[1], "texts": texts}
    write("rendered.json", {"made_with": made_with, "templates": rendered})

    ids = {}
    for path in sorted(assets.glob("tokenizers/*/tokenizer.json")):
        name = path.parent.name
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        chats = {}
        if template := CHATS.get(name):
            for case, texts in rendered[template]["texts"].items():
                chats[case] = [text if text is None else encode(text) for text in texts]
        ids[name] = {"template": CHATS.get(name), "texts": [encode(text) for text in cases["texts"]], "chats": chats}
    write("ids.json", {"made_with": made_with, "tokenizers": ids})


def write(name, value):
    (HERE / name).write_text(json.dumps(value, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n")


main()
