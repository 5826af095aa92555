# Token ids of whole conversations and of awkward text, from `transformers` and `tokenizers` on the tokenizer that
# mktok.py builds: writes chat_cases.json beside this file. Set ASSETS as for the other scripts. No PyTorch needed.
import json, os
from transformers import AutoTokenizer

here = os.path.dirname(os.path.abspath(__file__))
tok = AutoTokenizer.from_pretrained(os.environ['ASSETS'] + '/models/smollm2-135m-instruct-f32')
tok.chat_template = open(here + '/chat_template.jinja').read()
turn = lambda *pairs: [dict(role=r, content=c) for r, c in pairs]
conversations = [
    turn(('user', 'What is the capital of France?'), ('assistant', 'The capital of France is Paris.')),
    turn(('system', 'Answer in one word.'), ('user', '2024 + 1 = ?'), ('assistant', '2025'), ('user', 'Sûr? 漢字 🙂'), ('assistant', '')),
    turn(('system', ''), ('user', ' leading space\n'), ('assistant', "def f(a):\n    return a+10\n"), ('user', '\n\nagain'), ('assistant', 'ok.')),
]
out = dict(chats=[], texts=[])
for messages in conversations:
    text = tok.apply_chat_template(messages, tokenize=False)
    prompt = tok.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    ids = lambda s: tok(s, add_special_tokens=False).input_ids
    out['chats'].append(dict(messages=messages, text=text, ids=ids(text), prompt_ids=ids(prompt)))
for s in ['', ' ', '\n', ' \n \n  x', "I'll he's THEY'RE don't", '１２３ ½ Ⅷ 9³', 'a\u00a0b\u2003c\u200bd', 'e\u0301 ﬁ Ǆ', '🇫🇷👩‍👩‍👧‍👦', 'مرحبا שלום', '\r\n\r\n\t\t', '<|im_start|> <|endoftext|>', '<|im_end', '$100,000.00 (50%)', '_' * 70 + '=' * 70, 'ICD-10-CM A00.0: Cholera due to Vibrio cholerae 01, biovar cholerae']:
    out['texts'].append(dict(text=s, ids=ids(s)))
json.dump(out, open(here + '/chat_cases.json', 'w'), indent=1, ensure_ascii=False)
