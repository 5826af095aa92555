"""One process of PyTorch + transformers + PEFT: training steps of a fixed shape, one JSON object a step on stdout.

usage: torch_side.py --mode lora|full --dtype f32|bf16 [--compile] --steps N --batch B --length T --threads K

The model has the shape of SmolLM2-135M (30 layers, tied head) and random weights; the time of a step does not depend
on their values. LoRA: r 16, alpha 32, no dropout, on all seven linears of each layer. AdamW is PyTorch's fused one,
attention is `sdpa`. `bf16` is autocast over f32 weights, the usual way to train on a CPU that has bf16 products.
`--compile` runs the model through `torch.compile` (Inductor's C++ code); it compiles in the first step. All rows have the full length, so there is no padding. A step is: gradients dropped, forward, loss
over all positions, backward, AdamW.

The first line says what runs: {"about": {"trainable": ..., "versions": {...}}}; then {"step", "seconds", "loss"}.
"""

import argparse
import json
import time

import peft
import torch
import transformers

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def smollm2_135m():
    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        attn_implementation="sdpa",
    )
    return transformers.LlamaForCausalLM(config).float()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["lora", "full"], required=True)
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = smollm2_135m()
    if args.mode == "lora":
        lora = peft.LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, lora)
    model.train()
    run = torch.compile(model) if args.compile else model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    trainable = sum(parameter.numel() for parameter in trained)
    print(json.dumps({"about": {"trainable": trainable, "versions": versions}}), flush=True)

    ids = torch.randint(0, model.config.vocab_size, (args.batch, args.length))
    for step in range(args.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = run(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - start
        print(json.dumps({"step": step, "seconds": seconds, "loss": loss.item()}), flush=True)


if __name__ == "__main__":
    main()
