# Cold sampling, groups that do not fit, and no reward.
trl grpo \
  --model_name_or_path Qwen/Qwen3-4B \
  --use_peft true \
  --num_generations 8 \
  --temperature 0 \
  --per_device_train_batch_size 6 \
  --gradient_accumulation_steps 1 \
  --learning_rate 1e-6 \
  --output_dir out
