# Golden numbers of group-relative policy optimisation over a vocabulary of three tokens, float64, by PyTorch's own backward:
# losses of a batch, advantages of groups, KL estimators one token at a time and in expectation.
# Where TRL's GRPOTrainer has the same switch, its own `_compute_loss` is run on the same numbers and must agree to 1e-12.
# python toy.py
import collections, json, math, os
from types import SimpleNamespace
import torch
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

torch.set_num_threads(1)
F64 = torch.float64
MAX_LENGTH = 6  # Dr. GRPO's constant

# ---- The batch: eight sequences of uneven length; the policy has moved away from what sampled them. ----
LENGTHS = [3, 1, 4, 2, 3, 5, 2, 3]
ADVANTAGES = [1.2, -0.7, 0.0, -1.4, 0.6, -0.9, 1.1, -0.3]
state = 11
def draw(n):
    global state
    state = (state * 1103515245 + 12345) % 2147483648
    return state // 65536 % n
def number(scale):
    return (draw(2001) - 1000) / 1000 * scale
TOKENS = [[draw(3) for _ in range(n)] for n in LENGTHS]
LOGITS = [[[number(1.5) for _ in range(3)] for _ in range(n)] for n in LENGTHS]
OLD = [[[round(z + number(0.6), 3) for z in row] for row in rows] for rows in LOGITS]
REFERENCE = [[[round(z + number(0.9), 3) for z in row] for row in rows] for rows in LOGITS]

def padded(rows, fill):
    longest = max(LENGTHS)
    return torch.tensor([list(r) + [fill] * (longest - len(r)) for r in rows])

def logps(rows, temperature):
    logits = padded(rows, [0.0, 0.0, 0.0]).to(F64)
    return logits, torch.log_softmax(logits / temperature, -1)

tokens = padded(TOKENS, 0).unsqueeze(-1)
whole = padded([[1] * n for n in LENGTHS], 0).to(F64)
advantages = torch.tensor(ADVANTAGES, dtype=F64).unsqueeze(1)

# KL estimators of one token that was sampled from `old`: p, q the log-probabilities of policy and reference, r = exp(p - old).
def estimate(name, p, q, r):
    k3 = lambda: torch.exp(q - p) - (q - p) - 1
    return {'k1': lambda: p - q, 'k2': lambda: (p - q) ** 2 / 2, 'k3': k3,
            'k1_weighted': lambda: r * (p - q), 'k2_weighted': lambda: r * (p - q) ** 2 / 2, 'k3_weighted': lambda: r * k3()}[name]()

def loss_of(case, micro, leaves):
    """The loss of the rows `micro` as part of the batch. Sums over micro-batches are the batch's loss."""
    all_logps, p, entropy, old, q, q_all = leaves
    keep = torch.ones(len(LENGTHS), 1, dtype=F64)
    for row in case.get('cut', []):
        keep[row] = 0
    mask = whole * keep
    log_ratio = p - old
    if case['level'] == 'sequence':
        log_ratio = (log_ratio * whole).sum(1, keepdim=True) / whole.sum(1, keepdim=True)
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - case['epsilon_low'], 1 + case['epsilon_high'])
    if case.get('delta') is not None:
        ratio = ratio.clamp(max=case['delta'])
    each = -torch.min(ratio * advantages, bounded * advantages)
    if case.get('beta'):
        r = log_ratio.exp()  # with `delta` too: the weight of the KL term is never cut
        each = each + case['beta'] * (((all_logps.exp() * (all_logps - q_all)).sum(-1)) if case['kl'] == 'exact'
                                      else estimate(case['kl'], p, q, r))
    each = (each * mask)[micro]
    mask_here = mask[micro]
    kept = mask_here.sum(1) > 0
    if case['aggregation'] == 'grpo':  # over the tokens of a sequence, then over the kept sequences of the batch
        loss = (each.sum(1)[kept] / mask_here.sum(1)[kept]).sum() / (mask.sum(1) > 0).sum()
    elif case['aggregation'] == 'dapo':  # over the kept tokens of the batch
        loss = each.sum() / mask.sum()
    elif case['aggregation'] == 'dr_grpo':  # a constant for each kept sequence
        loss = each.sum() / ((mask.sum(1) > 0).sum() * MAX_LENGTH)
    elif case['aggregation'] == 'bnpo':  # over the kept tokens of the micro-batch, then over micro-batches
        loss = each.sum() / mask_here.sum() / len(case['micro'])
    if case.get('entropy_coef'):  # a mean over the kept tokens of the batch, whatever the aggregation
        loss = loss - case['entropy_coef'] * (entropy * mask)[micro].sum() / mask.sum()
    return loss

def loss_of_trl(case, micro, leaves):
    """The same by TRL, or None where it has no such switch."""
    _, p, entropy, old, q, _ = leaves
    kl = case.get('kl')
    if kl not in (None, 'k3', 'k3_weighted') or case.get('cut') and case['aggregation'] in ('grpo', 'dr_grpo'):
        return None
    if case.get('entropy_coef') and len(case['micro']) > 1:
        return None  # a mean per micro-batch there
    mask = whole.clone()
    for row in case.get('cut', []):
        mask[row] = 0
    accelerator = SimpleNamespace(num_processes=1, reduce=lambda x, reduction: x, gather=lambda x: x, sync_gradients=False)
    trainer = SimpleNamespace(
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=case.get('beta', 0.0),
        importance_sampling_level=case['level'], loss_type=case['aggregation'], epsilon_low=case['epsilon_low'],
        epsilon_high=case['epsilon_high'], use_vllm=False, model=SimpleNamespace(training=True), accelerator=accelerator,
        args=SimpleNamespace(delta=case.get('delta'), use_bias_correction_kl=kl == 'k3_weighted', steps_per_generation=len(case['micro'])),
        current_gradient_accumulation_steps=len(case['micro']), max_completion_length=MAX_LENGTH, use_adaptive_entropy=False,
        _entropy_bonus_enabled=bool(case.get('entropy_coef')), entropy_coef=case.get('entropy_coef', 0.0),
        _metrics={'train': collections.defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (p[micro], entropy[micro], None))
    inputs = {'prompt_ids': tokens[micro, :0, 0], 'prompt_mask': tokens[micro, :0, 0], 'completion_ids': tokens[micro, :, 0],
              'completion_mask': mask[micro], 'advantages': advantages[micro, 0], 'old_per_token_logps': old[micro],
              'ref_per_token_logps': q[micro], 'num_items_in_batch': mask.sum()}
    return GRPOTrainer._compute_loss(trainer, None, inputs), trainer._metrics['train']

def unpadded(values):
    return [v[:n] for v, n in zip(values.tolist(), LENGTHS)]

def run(case):
    case = {'level': 'token', 'epsilon_low': 0.2, 'epsilon_high': 0.28, 'temperature': 1.0, 'micro': [list(range(8))], **case}
    gradients = []
    for of in (loss_of, loss_of_trl):
        logits, all_logps = logps(LOGITS, case['temperature'])
        logits.requires_grad_()
        all_logps = torch.log_softmax(logits / case['temperature'], -1)
        p = all_logps.gather(-1, tokens).squeeze(-1)
        entropy = -(all_logps.exp() * all_logps).sum(-1)
        old = logps(OLD, case['temperature'])[1].gather(-1, tokens).squeeze(-1)
        q_all = logps(REFERENCE, case['temperature'])[1]
        q = q_all.gather(-1, tokens).squeeze(-1)
        parts = [of(case, micro, (all_logps, p, entropy, old, q, q_all)) for micro in case['micro']]
        if parts[0] is None:
            assert of is loss_of_trl
            continue
        if of is loss_of_trl:
            parts, metrics = [part for part, _ in parts], [m for _, m in parts]
        loss = sum(parts)
        wanted = torch.autograd.grad(loss, (p, entropy, logits), allow_unused=True)
        gradients.append((loss.item(), *wanted))
    (loss, by_logp, by_entropy, by_logits), *others = gradients
    mask = whole.clone()
    mask[case.get('cut', [])] = 0
    ratio = (p - old).exp()
    low, high = (ratio < 1 - case['epsilon_low']) & (advantages < 0), (ratio > 1 + case['epsilon_high']) & (advantages > 0)
    share = lambda x: ((x.to(F64) * mask).sum() / mask.sum()).item()
    if case['level'] == 'sequence':  # a share of the kept sequences
        ratio = ((p - old) * whole).sum(1, keepdim=True).div(whole.sum(1, keepdim=True)).exp()
        low, high = (ratio < 1 - case['epsilon_low']) & (advantages < 0), (ratio > 1 + case['epsilon_high']) & (advantages > 0)
        kept = mask[:, :1]
        share = lambda x: ((x.to(F64) * kept).sum() / kept.sum()).item()
    if case.get('delta') is None:
        case['clip_low'], case['clip_high'] = share(low), share(high)
        assert case['clip_low'] > 0 and case['clip_high'] > 0, case
    for other in others:
        assert abs(other[0] - loss) < 1e-12 and (other[3] - by_logits).abs().max() < 1e-12, (case, loss, other[0])
        if 'clip_low' in case and len(metrics) == 1 and not case.get('cut'):
            assert abs(metrics[0]['clip_ratio/low_mean'][0] - case['clip_low']) < 1e-12
            assert abs(metrics[0]['clip_ratio/high_mean'][0] - case['clip_high']) < 1e-12
    nothing = torch.zeros_like(p)
    return {**case, 'by_trl': bool(others), 'loss': loss, 'd_logp': unpadded(nothing if by_logp is None else by_logp),
            **({'d_entropy': unpadded(by_entropy)} if by_entropy is not None and case.get('entropy_coef') else {}),
            'd_logits': unpadded(by_logits)}

halves = [[0, 1, 2, 3], [4, 5, 6, 7]]
KINDS = ['grpo', 'dapo', 'dr_grpo', 'bnpo']
cases = [run({'aggregation': a}) for a in KINDS]
cases += [run({'aggregation': a, 'micro': halves}) for a in KINDS]
cases += [run({'aggregation': a, 'cut': [2, 5]}) for a in KINDS]
cases += [run({'aggregation': 'grpo', 'level': 'sequence', 'epsilon_low': e, 'epsilon_high': h}) for e, h in ((0.1, 0.15), (3e-4, 4e-4))]
cases += [run({'aggregation': 'grpo', 'level': 'sequence', 'epsilon_low': 0.1, 'epsilon_high': 0.15, 'cut': [2, 5]})]
cases += [run({'aggregation': 'dapo', 'delta': 1.5}), run({'aggregation': 'dapo', 'temperature': 0.7, 'beta': 0.3, 'kl': 'k3'})]
cases += [run({'aggregation': a, 'beta': 0.3, 'kl': k}) for a in ('grpo', 'dapo')
          for k in ('k1', 'k2', 'k3', 'k1_weighted', 'k2_weighted', 'k3_weighted', 'exact')]
cases += [run({'aggregation': a, 'entropy_coef': 0.2}) for a in ('grpo', 'dapo')]
cases += [run({'aggregation': 'dapo', 'entropy_coef': 0.2, 'beta': 0.1, 'kl': 'k3_weighted', 'cut': [2, 5], 'temperature': 1.3})]

# ---- One token: each estimator's value and gradient by outcome, and what it expects, on-policy and off. ----
def expectations(policy, reference, old):
    """For every token x: value and gradient with respect to the policy's logits; and sums over x weighted by `old`."""
    rows = {}
    q, o = (torch.log_softmax(torch.tensor(z, dtype=F64), -1) for z in (reference, old))
    def of(kind, x):
        z = torch.tensor(policy, dtype=F64, requires_grad=True)
        p = torch.log_softmax(z, -1)
        value = (p.exp() * (p - q)).sum() if kind == 'exact' else estimate(kind, p[x], q[x], (p[x] - o[x]).exp())
        return value.item(), torch.autograd.grad(value, z)[0].tolist()
    for kind in ('k1', 'k2', 'k3', 'k1_weighted', 'k2_weighted', 'k3_weighted'):
        each = [of(kind, x) for x in range(3)]
        weights = o.exp().tolist()
        rows[kind] = {'value': [v for v, _ in each], 'd_logits': [g for _, g in each],
                      'expected_value': sum(w * v for w, (v, _) in zip(weights, each)),
                      'expected_d_logits': [sum(w * g[i] for w, (_, g) in zip(weights, each)) for i in range(3)]}
    value, gradient = of('exact', 0)
    rows['exact'] = {'value': value, 'd_logits': gradient}
    near = lambda a, b: abs(a - b) < 1e-12
    alike = lambda k: all(map(near, rows[k]['expected_d_logits'], gradient))
    # The claims that a reader will want: the weighted k1 and k3 have the value and the gradient of KL(policy | reference) wherever
    # the tokens come from. Without weights, sampled from the policy itself: k1 and k3 have its value, k2 its gradient only.
    for k in ('k1_weighted', 'k3_weighted'):
        assert near(rows[k]['expected_value'], value) and alike(k)
    if policy == old:
        assert near(rows['k1']['expected_value'], value) and near(rows['k3']['expected_value'], value)
        assert alike('k2') and all(abs(g) < 1e-12 for g in rows['k1']['expected_d_logits'])
        assert policy == reference or not (alike('k1') or alike('k3') or near(rows['k2']['expected_value'], value))
    return {'logits': policy, 'reference_logits': reference, 'old_logits': old, 'estimators': rows}

one = [0.4, -0.9, 1.1]
kl = [expectations(one, [0.9, 0.2, -0.3], one), expectations(one, [0.9, 0.2, -0.3], [-0.2, 0.1, 0.8]), expectations(one, one, one)]

# ---- Rewards to advantages. None: abstained. Groups of four, in order. ----
GROUPS = {
    'plain': [1, 0, 0, 1, 0.25, 0.5, 0, 1],
    'abstained': [1, None, 0, 0.5, None, None, 1, 0],
    'no_variance': [1, 1, 1, 1, 0, 1, 0, 0],
    'one_left': [None, 1, None, None, 0, 1, 1, 0],
    'none_left': [None, None, None, None, 0, 1, 0.5, 0],
    'all_equal': [0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3],
    'near': [0.5, 0.50001, 0.5, 0.5, 1, 0, 0, 0],
}
def advantages_of(rewards, scale):
    """TRL 1.16's `sum_then_normalize`: sample deviation (n - 1) over the rewards that are there, 1e-4 added, NaN to 0."""
    r = torch.tensor([math.nan if x is None else x for x in rewards], dtype=F64)
    groups = r.view(-1, 4)
    mean = torch.nanmean(groups, 1).repeat_interleave(4)
    deviation = nanstd(r).expand_as(r) if scale == 'batch' else nanstd(groups, 1).repeat_interleave(4)
    a = r - mean
    if scale != 'none':
        a = a / (deviation + 1e-4)
    return torch.nan_to_num(a, nan=0.0).tolist()
groups = [{'name': name, 'rewards': rewards, 'group_size': 4, 'scale_rewards': scale, 'advantages': advantages_of(rewards, scale)}
          for name, rewards in GROUPS.items() for scale in ('group', 'batch', 'none')]

batch = {'tokens': TOKENS, 'logits': LOGITS, 'old_logits': OLD, 'reference_logits': REFERENCE, 'advantages': ADVANTAGES,
         'max_length': MAX_LENGTH}
_, all_logps = logps(LOGITS, 1.0)
at = lambda rows: unpadded(logps(rows, 1.0)[1].gather(-1, tokens).squeeze(-1))
batch.update(logps=at(LOGITS), old_logps=at(OLD), reference_logps=at(REFERENCE), entropy=unpadded(-(all_logps.exp() * all_logps).sum(-1)))
lines = lambda rows: '[\n' + ',\n'.join(json.dumps(r) for r in rows) + '\n]'
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'toy.json'), 'w') as f:
    f.write(f'{{"batch": {json.dumps(batch)},\n"losses": {lines(cases)},\n"kl": {lines(kl)},\n"groups": {lines(groups)}}}\n')
print(len(cases), 'losses,', sum(c['by_trl'] for c in cases), 'of them by TRL too;', len(kl), 'distributions;', len(groups), 'groupings')
for c in cases:
    print({k: v for k, v in c.items() if not k.startswith('d_') and k != 'micro'})
