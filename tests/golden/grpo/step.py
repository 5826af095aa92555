# Golden numbers of whole steps of TRL's GRPOTrainer, float32 on one thread, on the tiny Llama of ../preference/dpo.py (weights are a
# formula, written there and below). Completions and rewards are fixed tables, so nothing is sampled: the trainer's
# `_generate_single_turn` is replaced by a look-up and its shuffle of the generation batch by nothing.
# Four AdamW steps: two batches of two prompts x four answers, each used twice (`num_iterations` 2), so that steps 2 and 4 have importance
# ratios other than 1 and a KL to the start. AdamW at 3e-3 without decay, no dropout, gradient clipped at 1, constant rate but in
# one case (linear to 0).
# python step.py
import json, os, sys, tempfile
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback
import trl.trainer.grpo_trainer as module
from trl import GRPOConfig, GRPOTrainer

torch.set_num_threads(1)
VOCAB, EOS, GROUP, LONGEST = 24, 0, 4, 6

def wave(count, t, a):
    k = torch.arange(count, dtype=torch.float64)
    return a * torch.sin(0.37 * k + 0.0031 * k * k + 1.7 * t)

def model():
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=4, max_position_embeddings=32, rms_norm_eps=1e-5,
                         rope_parameters={'rope_type': 'default', 'rope_theta': 100.0}, tie_word_embeddings=False,
                         bos_token_id=None, eos_token_id=EOS, pad_token_id=None, attention_dropout=0.0)
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

state = 7
def draw(n):
    global state
    ids = []
    for _ in range(n):
        state = (state * 1103515245 + 12345) % 2147483648
        ids.append(2 + state // 65536 % (VOCAB - 2))
    return ids
# Four prompts of several lengths; each has four answers. An answer ends with the end of sequence, 0, but for one of each
# prompt, which was cut at the limit of six tokens.
PROMPTS = [draw(n) for n in (3, 5, 2, 4)]
ANSWERS = [[draw(LONGEST) if a == (p + 1) % GROUP else draw(1 + (2 * a + p) % 5) + [EOS] for a in range(GROUP)] for p in range(4)]
# The third group abstains once; the fourth has no variance.
REWARDS = [[1.0, 0.0, 0.25, 0.5], [0.0, 0.0, 1.0, 0.0], [1.0, None, 0.0, 0.5], [0.5, 0.5, 0.5, 0.5]]
text = lambda ids: ''.join(WORDS[i] + ' ' for i in ids)
data = Dataset.from_list([{'prompt': text(p), 'row': i} for i, p in enumerate(PROMPTS)])

def reward(completion_ids, row, **_):
    table = {(r, tuple(a)): v for r in range(4) for a, v in zip(ANSWERS[r], REWARDS[r])}
    return [table[r, tuple(ids)] for r, ids in zip(row, completion_ids)]

module.shuffle_sequence_dict = lambda batch: batch

class Forced(GRPOTrainer):
    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        assert len(prompt_ids) % GROUP == 0
        return [ANSWERS[PROMPTS.index(p)][i % GROUP] for i, p in enumerate(prompt_ids)], None

    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        self.scored = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return self.scored

    def _compute_loss(self, model, inputs):
        loss = super()._compute_loss(model, inputs)
        lengths = inputs['prompt_mask'].sum(1).tolist()
        part = {'rows': [PROMPTS.index(p[len(p) - n:]) for p, n in zip(inputs['prompt_ids'].tolist(), lengths)], 'loss': loss.item(),
                'inputs': inputs, 'logps': self.scored[0].detach(), 'entropies': self.scored[1].detach()}
        self.parts.append(part)
        return loss

f32 = lambda x: float(f'{x:.9g}')  # nine digits hold a float32

def run(lora=False, micro=8, **settings):
    with tempfile.TemporaryDirectory() as folder:
        start = os.path.join(folder, 'start')
        model().save_pretrained(start)  # the trainer reads its reference from here
        settings = {'beta': 0.04, 'lr_scheduler_type': 'constant', **settings}
        args = GRPOConfig(output_dir=folder, per_device_train_batch_size=micro, gradient_accumulation_steps=8 // micro,
                          num_generations=GROUP, num_iterations=2, max_completion_length=LONGEST, learning_rate=3e-3,
                          warmup_steps=0, weight_decay=0.0, max_grad_norm=1.0, max_steps=4, logging_steps=1, report_to='none',
                          save_strategy='no', bf16=False, use_cpu=True, disable_dropout=True, shuffle_dataset=False,
                          gradient_checkpointing=False, **settings)
        peft = LoraConfig(r=3, lora_alpha=6, lora_dropout=0.0, bias='none', task_type='CAUSAL_LM',
                          target_modules=['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'])
        policy = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
        trainer = Forced(model=policy, reward_funcs=reward, args=args, train_dataset=data, processing_class=tokenizer,
                         **({'peft_config': peft} if lora else {}))
        trained = {n: w for n, w in trainer.model.named_parameters() if w.requires_grad}
        if lora:
            with torch.no_grad():
                for t, (name, w) in enumerate(sorted((n, w) for n, w in trained.items() if 'lora_A' in n)):
                    w.copy_(wave(w.numel(), t, 0.5).view(w.shape))
                assert all(w.abs().max() == 0 for n, w in trained.items() if 'lora_B' in n)
        else:
            assert all(torch.equal(a, b) for a, b in zip(trainer.model.state_dict().values(), model().state_dict().values()))
            if settings['beta']:
                assert all(torch.equal(a, b) for a, b in zip(trainer.ref_model.state_dict().values(), model().state_dict().values()))
        short = lambda n: n.replace('base_model.model.', '').replace('.default', '')
        parts, weights = [], []
        trainer.parts = []
        class AfterStep(TrainerCallback):
            def on_step_end(self, *_, **__):
                parts.append(list(trainer.parts))
                trainer.parts.clear()
                weights.append({short(n): [f32(w.detach().double().norm().item()), *map(f32, w.detach().flatten()[1:4].tolist())]
                                for n, w in sorted(trained.items())})
        trainer.add_callback(AfterStep())
        trainer.train()
        logged = [line for line in trainer.state.log_history if 'loss' in line]
        assert len(logged) == len(parts) == len(weights) == 4
        keep = ['grad_norm', 'learning_rate', 'kl', 'entropy', 'clip_ratio/low_mean', 'clip_ratio/high_mean', 'clip_ratio/region_mean',
                'reward', 'reward_std', 'frac_reward_zero_std', 'completions/clipped_ratio', 'completions/mean_length']
        steps = []
        for line, micros, after in zip(logged, parts, weights):
            step = {'loss': f32(sum(m['loss'] for m in micros)), **{k: line[k] for k in keep if k in line}}
            masks = torch.cat([m['inputs']['completion_mask'] for m in micros]).bool()
            of = lambda key: torch.cat([m[key] if key in m else m['inputs'][key] for m in micros])
            rows = [r for m in micros for r in m['rows']]
            answers = [ANSWERS[r][i % GROUP] for i, r in enumerate(rows)]
            assert [i[:len(a)] for i, a in zip(of('completion_ids').tolist(), answers)] == answers
            assert all(m.sum() in (0, len(a)) for m, a in zip(masks, answers))
            step['prompts'] = rows[::GROUP]
            step['kept'] = [bool(m.any()) for m in masks]
            step['advantages'] = [f32(a) for a in of('advantages').tolist()]
            for name, key in (('logps', 'logps'), ('old_logps', 'old_per_token_logps'), ('ref_logps', 'ref_per_token_logps'),
                              ('entropies', 'entropies')):
                if key in micros[0] or key in micros[0]['inputs']:
                    # What attention saw of a masked answer is nothing; its numbers have no meaning.
                    step[name] = [[f32(x) for x in row[:len(a)]] if m.any() else None
                                  for row, a, m in zip(of(key).tolist(), answers, masks)]
            step['weights'] = after
            steps.append(step)
        assert any(abs(p - o) > 0.05 for p, o in zip(sum(filter(None, steps[1]['logps']), []), sum(filter(None, steps[1]['old_logps']), [])))
        return {'lora': lora, 'micro': micro, **settings, 'steps': steps}

cases = [run(loss_type='grpo'),
         run(loss_type='dapo', epsilon_high=0.28),
         run(loss_type='grpo', lora=True),
         run(loss_type='dapo', epsilon_high=0.28, lora=True),
         run(loss_type='dr_grpo', beta=0.0, scale_rewards='none', lr_scheduler_type='linear'),
         run(loss_type='bnpo', micro=4, scale_rewards='batch'),
         run(loss_type='dapo', micro=4, mask_truncated_completions=True),
         run(loss_type='grpo', importance_sampling_level='sequence', beta=0.0, epsilon=0.2, epsilon_high=0.28),
         run(loss_type='grpo', temperature=0.7, use_bias_correction_kl=False, entropy_coef=0.1, beta=0.2)]
lines = lambda rows: '[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]'
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'step.json'), 'w') as f:
    f.write(f'{{"prompts": {json.dumps(PROMPTS)},\n"answers": {json.dumps(ANSWERS)},\n"rewards": {json.dumps(REWARDS)},\n'
            f'"cases": {lines(cases)}}}\n')
for c in cases:
    print({k: v for k, v in c.items() if k != 'steps'}, file=sys.stderr)
    for s in c['steps']:
        print('   ', {k: v for k, v in s.items() if k not in ('weights', 'logps', 'old_logps', 'ref_logps', 'entropies')}, file=sys.stderr)
