# Golden numbers of Muon: torch.optim.Muon over matrices, wide, tall and square, whose weights and gradients are a formula.
#   weight of shape number t: 0.3 * sin(0.37 k + 0.0031 k^2 + 1.7 t); gradient of step s (from 1): the same with t + 10 s, times 0.01
# Three steps at 1e-2 with weight decay 0.1 and adjust_lr_fn="match_rms_adamw"; once with the matrices of the iteration kept
# in f32, and once as PyTorch has it, rounded to bf16.
# python make.py > muon.json
import json
import torch

torch.set_num_threads(1)
SHAPES = [(12, 20), (20, 12), (16, 16), (4, 24), (40, 8), (65, 33)]


def wave(shape, t, a):
    k = torch.arange(shape[0] * shape[1], dtype=torch.float64)
    return (a * torch.sin(0.37 * k + 0.0031 * k * k + 1.7 * t)).view(shape).to(torch.float32)


class Unrounded(torch.utils._python_dispatch.TorchDispatchMode):
    """Casts to bf16 become casts to f32."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get('dtype') == torch.bfloat16:
            kwargs['dtype'] = torch.float32
        return func(*args, **kwargs)


def steps():
    weights = [torch.nn.Parameter(wave(shape, t, 0.3)) for t, shape in enumerate(SHAPES)]
    muon = torch.optim.Muon(weights, lr=1e-2, weight_decay=0.1, adjust_lr_fn='match_rms_adamw')
    for s in range(1, 4):
        for t, weight in enumerate(weights):
            weight.grad = wave(weight.shape, t + 10 * s, 0.01)
        muon.step()
    numbers = lambda tensor: [float(f'{x:.9g}') for x in tensor.detach().flatten().tolist()]
    return weights, [{'shape': list(w.shape), 'weight': numbers(w), 'momentum': numbers(muon.state[w]['momentum_buffer'])} for w in weights]


with Unrounded():
    exact, golden = steps()
rounded, in_bf16 = steps()
for entry, one, other in zip(golden, rounded, in_bf16):
    entry['weight_by_bf16'] = other['weight']
print(json.dumps({'torch': torch.__version__, 'cases': golden}))
