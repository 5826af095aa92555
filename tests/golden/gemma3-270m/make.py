"""What transformers makes of the real Gemma 3 270M: python make.py MODEL.gguf   (writes golden.json beside this file)

f32 over the dequantised weights, eager attention. The text is longer than the model's window of 512 tokens.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}

import torch
import transformers

HERE = Path(__file__).parent
# The licence of the program: a text that does not change.
TEXT = (HERE / "../../../LICENSE-APACHE").read_text()[:4000].strip()
PROMPTS = ["Photosynthesis is the process by which", "The capital of France is"]
AWKWARD = ["Hello world 2024! I'm  here\n\n", "  x=12345 é 漢字 🙂 foo", "def f(a):\n    return a+10\n", "\tTab 1,000.50%"]

gguf = Path(sys.argv[1]).resolve()
torch.set_num_threads(2)
load = dict(pretrained_model_name_or_path=gguf.parent, gguf_file=gguf.name)
tokenizer = transformers.AutoTokenizer.from_pretrained(**load)
model = transformers.AutoModelForCausalLM.from_pretrained(**load, dtype=torch.float32, attn_implementation="eager").eval()


def encode(text):
    return tokenizer(text)["input_ids"]


with torch.no_grad():
    ids = torch.tensor([encode(TEXT)])
    logits = model(input_ids=ids).logits[0]
    logprob = torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0]
    top = logits[-1].topk(5)
    found = dict(
        transformers=transformers.__version__, torch=torch.__version__, ids=ids[0].tolist(),
        loss=-logprob.double().mean().item(), loss_beyond_window=-logprob[512:].double().mean().item(),
        top5=[[int(i), float(v)] for v, i in zip(top.values, top.indices)], greedy=[],
        awkward=[dict(text=text, ids=encode(text)) for text in AWKWARD],
    )
    for prompt in PROMPTS:
        ids = torch.tensor([encode(prompt)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False)
        new = out[0, ids.shape[1]:].tolist()
        found["greedy"].append(dict(prompt=prompt, ids=ids[0].tolist(), new=new, text=tokenizer.decode(new)))
        print(prompt, "|", tokenizer.decode(new))
(HERE / "golden.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
print(len(found["ids"]), found["loss"], found["loss_beyond_window"], found["top5"])
