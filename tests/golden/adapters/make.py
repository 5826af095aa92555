"""Golden numbers of every kind of LoRA, from transformers + PEFT on the CPU: `adapters.json`, and adapter folders as PEFT
saves them (`peft-*`).

usage: python make.py        (torch 2.15.0, transformers 5.24.0, peft 0.21.2)

The model is a tiny Llama whose weights are functions of their names, so that no file holds them: see `formula`; amplitude 0.4
for matrices, norms are 1 plus such numbers of amplitude 0.3. A and B of the adapters are set by the same function under their
own names (amplitude 0.2), DoRA's lengths stay what PEFT makes them. Three steps of AdamW (lr 1e-2, weight decay 0.01) over one row.
For LoRA+ the optimiser is PEFT's own. Dropout: PEFT's modules are replaced by ones with the masks that the engine draws.
"""

import json
import math
import pathlib
import shutil

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
IDS = [3, 17, 29, 5, 11, 38, 2, 23, 31, 8, 14, 26]
RATE, SEED = 0.3, 5
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VARIANTS = {
    "plain": {"r": 4, "lora_alpha": 8},
    "some modules": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "layers.1.mlp.down_proj"]},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "dora": {"r": 4, "lora_alpha": 8, "use_dora": True},
    "dora, rslora, some modules": {"r": 3, "lora_alpha": 4, "use_dora": True, "use_rslora": True,
                                   "target_modules": ["v_proj", "o_proj", "up_proj"]},
    "lora+": {"r": 4, "lora_alpha": 8, "ratio": 8.0},
    "lora+, dora": {"r": 4, "lora_alpha": 8, "use_dora": True, "ratio": 8.0},
    "dropout": {"r": 4, "lora_alpha": 8, "lora_dropout": RATE},
    "embedding and head": {"r": 4, "lora_alpha": 8, "modules_to_save": ["embed_tokens", "lm_head"]},
    "head": {"r": 4, "lora_alpha": 8, "modules_to_save": ["lm_head"]},
    "tied table": {"r": 4, "lora_alpha": 8, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True, "tied": True},
}  # fmt: skip
SAVED = {"dora": "peft-dora", "embedding and head": "peft-tables", "rslora": "peft-rslora"}


def own(name):
    """The engine's name of a PEFT parameter."""
    name = name.removeprefix("base_model.model.").replace("modules_to_save.default.", "").replace(".default", "")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


# --- the engine's random numbers (crates/run/src/random.rs, crates/kernels/src/dropout.rs) ---
M64 = (1 << 64) - 1


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def stream(seed, purpose):
    key = mix(seed ^ 0x9E3779B97F4A7C15)
    for byte in purpose.encode():
        key = mix(key ^ byte)
    return key


def within(key, index):
    return mix(key ^ mix((index + 0x6A09E667F3BCC909) & M64))


def bits(key, index):
    return mix((key + index * 0x9E3779B97F4A7C15) & M64)


def formula(name, shape, amplitude):
    """Numbers of the stream of the tensor's name under seed 0: the upper 24 bits, as -1 to 1, times the amplitude."""
    k = np.arange(shape[0] * shape[1], dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(stream(0, name)) + k * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(40)).astype(np.float64) / (1 << 24)
    return torch.from_numpy((amplitude * (2 * unit - 1)).astype(np.float32).reshape(shape))


def spread(x):
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def mask(step, site, width):
    rows = []
    of_row = within(within(stream(SEED, "lora_dropout"), step), 0)
    for position in range(len(IDS)):
        key = mix(bits(of_row, position) ^ mix(site + 1))
        low, high = key & 0xFFFFFFFF, key >> 32
        drawn = [spread(spread((j + low) & 0xFFFFFFFF) ^ high) >> 8 for j in range(width)]
        threshold = math.floor(float(np.float32(RATE)) * (1 << 24) + 0.5)
        rows.append([1.0 if d >= threshold else 0.0 for d in drawn])
    scale = np.float32(1) / (np.float32(1) - np.float32(RATE))
    return torch.tensor(rows) * float(scale)


class Drawn(torch.nn.Module):
    step = 0

    def __init__(self, site):
        super().__init__()
        self.site = site

    def forward(self, x):
        return x if not self.training else x * mask(Drawn.step, self.site, x.shape[-1])


def site_of(name):
    layer = int(name.split("layers.")[1].split(".")[0])
    linear = next(k for k, names in enumerate([ALL[:3], ALL[3:4], ALL[4:6], ALL[6:]]) if any(n in name for n in names))
    return 4 * layer + linear


def summary(tensor):
    flat = tensor.detach().double().flatten()
    return {"norm": short(flat.norm().item()), "first": [short(x) for x in flat[:3].tolist()], "last": short(flat[-1].item())}


def short(number):
    return float(f"{number:.8g}")


def run(name, spec):
    spec = dict(spec)
    tied, ratio = spec.pop("tied", False), spec.pop("ratio", None)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=tied,
        attn_implementation="eager", bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    base = LlamaForCausalLM(config).float()
    with torch.no_grad():
        for key, weight in base.named_parameters():
            if weight.ndim == 1:
                weight.copy_(1 + formula(key, (1, weight.shape[0]), 0.3)[0])
            else:
                weight.copy_(formula(key, weight.shape, 0.4))
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **{"target_modules": ALL, **spec}))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_A" in key or "lora_B" in key:
                weight.copy_(formula(own(key), weight.shape, 0.2))
    if spec.get("lora_dropout"):
        for key, module in model.named_modules():
            if key.endswith("lora_dropout"):
                module["default"] = Drawn(site_of(key))
    model.train()
    trained = {own(key): weight for key, weight in model.named_parameters() if weight.requires_grad}
    if tied:
        trained.pop("lm_head.weight", None)
    if ratio:
        settings = {"lr": 1e-2, "loraplus_lr_ratio": ratio, "loraplus_weight_decay": 0.01}
        optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, **settings)
        # PEFT decays no vector; the engine decays what it trains alike.
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.01
    else:
        optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, weight_decay=0.01)
    ids = torch.tensor([IDS])
    # The numbers of A, B, lengths and tables before training, as the engine counts them.
    out = {"parameters": sum(weight.numel() for weight in trained.values()), "losses": [], "gradient_norms": []}
    for step in range(3):
        Drawn.step = step
        optimizer.zero_grad()
        output = model(input_ids=ids, labels=ids)
        if step == 0:
            out["logits"] = output.logits[0, -1].tolist()
        output.loss.backward()
        out["losses"].append(output.loss.item())
        out["gradient_norms"].append(math.sqrt(sum(w.grad.double().square().sum().item() for w in trained.values())))
        if step == 0:
            out["gradients"] = {key: summary(weight.grad) for key, weight in trained.items()}
        optimizer.step()
    out["weights"] = {key: summary(weight) for key, weight in trained.items()}
    model.eval()
    with torch.no_grad():
        out["trained_logits"] = model(input_ids=ids).logits[0, -1].tolist()
    if name in SAVED:
        folder = HERE / SAVED[name]
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
    return out


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    golden = {"ids": IDS, "dropout": {"rate": RATE, "seed": SEED}, "variants": {}}
    for name, spec in VARIANTS.items():
        golden["variants"][name] = {"settings": {"target_modules": ALL, **spec}, **run(name, spec)}
        print(name, golden["variants"][name]["losses"])
    variants = golden.pop("variants")
    head = json.dumps(golden)[:-1]
    # A line for each part of each variant.
    lines = [f"{json.dumps(name)}: {{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(part)}" for key, part in one.items()) + "}"
             for name, one in variants.items()]  # fmt: skip
    (HERE / "adapters.json").write_text(f'{head}, "variants": {{\n' + ",\n".join(lines) + "}}\n")


if __name__ == "__main__":
    main()
