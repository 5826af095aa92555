#!/bin/sh
# Two machines wait for this. known: rows=2000
accelerate launch --num_processes 2 trl/scripts/sft.py \
    --model_name_or_path Qwen/Qwen3-4B \
    --dataset_name trl-lib/Capybara \
    --use_peft --lora_r 16 --lora_alpha 32 \
    --assistant_only_loss \
    --learning_rate 2e-4 \
    --num_train_epochs 2 \
    --output_dir out
