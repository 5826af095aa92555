"""Tiny random models of every supported family, and what transformers makes of them, in f32 with eager attention.

    python make.py            # beside this file: NAME/config.json, NAME/*.safetensors, NAME.safetensors, golden.json
    python make.py --check DIR   # loads the models of DIR/NAME and holds their logits against those here

Of each: logits of two rows of uneven length, the mean cross-entropy of both rows together, the norm of the gradient of every
parameter, then one step of AdamW, the weights after it and the loss. Weights are far larger than at a usual start, so that
attention, gates and norms are far from linear; norms and biases are away from their neutral values.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, CONFIG_MAPPING

HERE = Path(__file__).parent
SIZES = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128, rms_norm_eps=1e-5, bos_token_id=None, eos_token_id=None, pad_token_id=None)
ADAMW = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-4, weight_decay=0.1)


def rope(kind="default", theta=100.0, **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


MODELS = {
    "llama-bias": ("llama", dict(num_hidden_layers=2, num_key_value_heads=4, attention_bias=True, mlp_bias=True,
                                 rope_parameters=rope())),
    "llama-llama3": ("llama", dict(num_hidden_layers=2, head_dim=8, tie_word_embeddings=True, rope_parameters=rope(
        "llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64))),
    "llama-linear": ("llama", dict(num_hidden_layers=2, tie_word_embeddings=True,
                                   rope_parameters=rope("linear", factor=3.0))),
    "llama-dynamic": ("llama", dict(num_hidden_layers=2, tie_word_embeddings=True,
                                    rope_parameters=rope("dynamic", factor=2.0))),
    "llama-yarn": ("llama", dict(num_hidden_layers=2, head_dim=8, tie_word_embeddings=True, rope_parameters=rope(
        "yarn", factor=4.0, original_max_position_embeddings=32, beta_fast=4.0, beta_slow=1.0))),
    "mistral": ("mistral", dict(num_hidden_layers=2, sliding_window=4, rope_parameters=rope())),
    "qwen2": ("qwen2", dict(num_hidden_layers=3, use_sliding_window=True, sliding_window=5, max_window_layers=1,
                            tie_word_embeddings=True, rope_parameters=rope())),
    "qwen3": ("qwen3", dict(num_hidden_layers=2, head_dim=6, rope_parameters=rope())),
    "smollm3": ("smollm3", dict(num_hidden_layers=4, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=5,
                                tie_word_embeddings=True, rope_parameters=rope())),
    "gemma3": ("gemma3_text", dict(num_hidden_layers=4, head_dim=6, sliding_window=4, query_pre_attn_scalar=20,
                                   sliding_window_pattern=2, rope_parameters=dict(
                                       full_attention=rope("linear", 1000.0, factor=2.0), sliding_attention=rope()))),
}


def fresh(name, index):
    """The model with weights that are a function of its place in the list."""
    kind, fields = MODELS[name]
    torch.manual_seed(index)
    config = CONFIG_MAPPING[kind](**{**SIZES, **fields})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for path, p in model.named_parameters():
            noise = torch.randn(p.shape)
            if path.endswith("bias"):
                p.copy_(0.5 * noise)
            elif p.dim() == 1:
                p.copy_(0.3 * noise if kind.startswith("gemma") else 1.0 + 0.3 * noise)
            elif "embed_tokens" in path:
                p.copy_((0.5 if config.tie_word_embeddings else 1.0) * noise)
            else:
                p.copy_(1.2 / p.shape[1] ** 0.5 * noise)
    return model


def loss_of(model, rows):
    logits = [model(input_ids=row[None]).logits[0] for row in rows]
    nll = sum(torch.nn.functional.cross_entropy(z[:-1], row[1:], reduction="sum") for z, row in zip(logits, rows))
    return nll / sum(len(row) - 1 for row in rows), logits


def rows_of(index):
    draw = torch.Generator().manual_seed(1000 + index)
    return [torch.randint(SIZES["vocab_size"], (n,), generator=draw) for n in (14, 9)]


def make():
    found = dict(transformers=transformers.__version__, torch=torch.__version__, adamw=ADAMW, models={})
    for index, name in enumerate(MODELS):
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        model, rows = fresh(name, index), rows_of(index)
        # One of them in several files, with an index.
        model.save_pretrained(folder, max_shard_size="20KB" if name == "qwen3" else "5GB")
        (folder / "generation_config.json").unlink(missing_ok=True)
        optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
        loss, logits = loss_of(model, rows)
        loss.backward()
        golden = {f"logits.{i}": z.detach().contiguous() for i, z in enumerate(logits)}
        norms = {path: p.grad.double().norm().item() for path, p in model.named_parameters()}
        optimizer.step()
        golden |= {f"stepped.{path}": p.detach().clone() for path, p in model.named_parameters()}
        save_file(golden, HERE / f"{name}.safetensors")
        after = loss_of(model, rows)[0].item()
        found["models"][name] = dict(rows=[row.tolist() for row in rows], loss=loss.item(), gradient_norms=norms,
                                     loss_after=after)
        print(name, loss.item(), after, sum(p.numel() for p in model.parameters()))
    for file in HERE.rglob("*.safetensors"):
        file.chmod(0o644)
    (HERE / "golden.json").write_text(json.dumps(found, indent=1) + "\n")


def check(exported):
    """Logits of models that were written elsewhere from the weights here, within 1e-5 of the largest."""
    for index, name in enumerate(MODELS):
        model = AutoModelForCausalLM.from_pretrained(exported / name, dtype=torch.float32, attn_implementation="eager")
        with torch.no_grad():
            got, expected = loss_of(model, rows_of(index))[1], loss_of(fresh(name, index), rows_of(index))[1]
        error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(got, expected))
        print(f"{name:14} largest difference of logits {error:.1e}")
        assert error < 1e-5, name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    check(arguments.check) if arguments.check else make()
