# Golden numbers of preference training: TRL's DPOTrainer on a tiny Llama whose weights are a formula, so no file is needed.
#   weight k of tensor number t (names sorted): a * sin(0.37 k + 0.0031 k^2 + 1.7 t), a = 2 / sqrt(columns); norms: 1 + 0.3 * sin(...)
#   LoRA: A as weights with a = 0.5 over the sorted names of A, B zero.
# Every case trains three steps of four pairs in micro-batches of two (the one with `sft`: of four, since TRL takes that mean
# per micro-batch), AdamW at 1e-2 without decay, no dropout, rows in order, gradient clipped at 1.
# python dpo.py > dpo.json
import json, os, sys, tempfile
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils.data import SequentialSampler
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

torch.set_num_threads(1)
VOCAB = 24

def wave(count, t, a):
    k = torch.arange(count, dtype=torch.float64)
    return a * torch.sin(0.37 * k + 0.0031 * k * k + 1.7 * t)

def model():
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=4, max_position_embeddings=32, rms_norm_eps=1e-5,
                         rope_parameters={'rope_type': 'default', 'rope_theta': 100.0}, tie_word_embeddings=False,
                         bos_token_id=None, eos_token_id=0, pad_token_id=None, attention_dropout=0.0)
    m = LlamaForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        for t, (name, w) in enumerate(sorted(m.named_parameters())):
            if w.dim() == 1:
                w.copy_(1 + wave(w.numel(), t, 0.3))
            else:
                w.copy_(wave(w.numel(), t, 2 / w.shape[1] ** 0.5).view(w.shape))
    return m

WORDS = 'abcdefghijklmnopqrstuvwx'
words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token='b'))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token='a', pad_token='b')

# Prompts of several lengths; answers of uneven lengths, some beginning alike.
state = 7
def draw(n):
    global state
    ids = []
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2147483648
        ids.append(2 + state // 65536 % (VOCAB - 2))
    return ids
rows = []
for i in range(12):
    prompt, begin = draw(2 + i % 5), draw(i % 3)
    rows.append((prompt, begin + draw(1 + i % 4), begin + draw(2 + (i * 3) % 5)))
text = lambda ids: ''.join(WORDS[i] + ' ' for i in ids)
data = Dataset.from_list([{'prompt': text(p), 'chosen': text(c), 'rejected': text(r)} for p, c, r in rows])

class InOrder(DPOTrainer):
    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)

def run(micro, lora=False, **settings):
    with tempfile.TemporaryDirectory() as folder:
        args = DPOConfig(output_dir=folder, per_device_train_batch_size=micro, gradient_accumulation_steps=4 // micro,
                         learning_rate=1e-2, lr_scheduler_type='constant', warmup_steps=0, weight_decay=0.0,
                         max_grad_norm=1.0, max_steps=3, logging_steps=1, report_to='none', save_strategy='no', bf16=False,
                         use_cpu=True, disable_dropout=True, **settings)
        peft = LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, bias='none', task_type='CAUSAL_LM',
                          target_modules=['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'])
        trainer = InOrder(model=model(), args=args, train_dataset=data, processing_class=tokenizer,
                          **({'peft_config': peft} if lora else {'ref_model': model()}))
        trained = {n: w for n, w in trainer.model.named_parameters() if w.requires_grad}
        if lora:
            with torch.no_grad():
                of_a = sorted((n, w) for n, w in trained.items() if 'lora_A' in n)
                for t, (name, w) in enumerate(of_a):
                    w.copy_(wave(w.numel(), t, 0.5).view(w.shape))
                assert all(w.abs().max() == 0 for n, w in trained.items() if 'lora_B' in n)
        ids = [[r['prompt_ids'], r['chosen_ids'], r['rejected_ids']] for r in trainer.train_dataset]
        assert ids == [[p, c + [0], r + [0]] for p, c, r in rows], ids
        trainer.train()
        keep = ['loss', 'grad_norm', 'rewards/chosen', 'rewards/rejected', 'rewards/margins', 'rewards/accuracies',
                'logps/chosen', 'logps/rejected']
        steps = [{k: line[k] for k in keep} for line in trainer.state.log_history if 'loss' in line]
        assert len(steps) == 3
        short = lambda n: n.replace('base_model.model.', '').replace('.default', '')
        norms = {short(n): w.detach().double().norm().item() for n, w in sorted(trained.items())}
        return {'lora': lora, 'micro': micro, **settings, 'steps': steps, 'norms': norms}

cases = [run(2, loss_type='sigmoid', beta=0.1), run(2, loss_type='ipo', beta=0.2), run(2, loss_type='hinge', beta=0.3),
         run(2, loss_type='robust', beta=0.3, label_smoothing=0.1),
         run(4, loss_type=['sigmoid', 'sft'], loss_weights=[1.0, 0.5], beta=0.1),
         run(2, lora=True, loss_type='sigmoid', beta=0.1)]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'dpo.json'), 'w') as f:
    json.dump({'rows': rows, 'cases': cases}, f, indent=0)
print(json.dumps([c['steps'] for c in cases], indent=0), file=sys.stderr)
