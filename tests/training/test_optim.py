"""AdamW, clipping, the learning rate, the running average."""
import math

import numpy as np
import pytest

from tests import plain
from tinydiff import nn
from tinydiff.autograd import Tensor
from tinydiff.training.optim import EMA, AdamW, Muon, clip_grad_norm, grad_norm, warmup_cosine

SHAPES = [(3, 3, 2, 5), (7,), (1,)]
LR, BETAS, EPS, DECAY = 0.02, (0.9, 0.99), 1e-8, 0.1


def parameters(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True) for shape in SHAPES]


def gradients(seed, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


class Holder(nn.Module):
    def __init__(self, params):
        self.a, self.b, self.c = params


def test_adamw_is_its_formula():
    params = parameters(0)
    optimizer = AdamW(params, LR, BETAS, EPS, DECAY)
    expected = [p.data.copy() for p in params]
    sums = [[np.zeros(s), np.zeros(s)] for s in SHAPES]  # of all gradients so far, weighted with powers of beta
    for n in range(1, 5):
        scale = 1 / n
        for i, (p, g) in enumerate(zip(params, gradients(n))):
            p.grad = g
            g = g * scale
            sums[i] = [beta * total + power for beta, total, power in zip(BETAS, sums[i], (g, g * g))]
            mean, square = (total / sum(beta**k for k in range(n)) for beta, total in zip(BETAS, sums[i]))  # weights that add up to 1
            expected[i] = expected[i] * (1 - LR * DECAY) - LR * mean / (np.sqrt(square) + EPS)
        optimizer.step(grad_scale=scale)
    for p, q in zip(params, expected):
        np.testing.assert_allclose(p.data, q, rtol=1e-12, atol=1e-14)  # ten roundings of 1.1e-16 a step


def torch_trajectory(torch, dtype, steps=5):
    """What torch makes of the same parameters and gradients, clipped to 2."""
    params = [torch.nn.Parameter(torch.tensor(p.data.astype(dtype))) for p in parameters(0)]
    optimizer = torch.optim.AdamW(params, LR, BETAS, EPS, DECAY)
    for n in range(steps):
        for p, g in zip(params, gradients(n)):
            p.grad = torch.tensor(g.astype(dtype))
        torch.nn.utils.clip_grad_norm_(params, 2.0)
        optimizer.step()
    return [p.detach().numpy() for p in params]


def our_trajectory(dtype, steps=5):
    params = parameters(0, dtype)
    optimizer = AdamW(params, LR, BETAS, EPS, DECAY)
    for n in range(steps):
        for p, g in zip(params, gradients(n, dtype)):
            p.grad = g
        clip_grad_norm(params, 2.0)
        optimizer.step()
    return [p.data for p in params]


# The first three entries of each parameter after 5 steps by torch 2.13.0: torch_trajectory(torch, np.float64)
STORED = [[0.045102144, -0.107609526, 0.565519513], [-0.301312415, 1.5169383, -0.381415482], [-0.538764773]]


def test_adamw_and_clipping_agree_with_torchs_stored_result():
    # torch divides by norm + 1e-6 where we divide by the norm, about 10: gradients 1e-7 apart, and so are 5 steps of 0.02. STORED has 9 digits.
    for ours, theirs in zip(our_trajectory(np.float64), STORED):
        np.testing.assert_allclose(ours.ravel()[:3], theirs, rtol=0, atol=2e-8)


@pytest.mark.parametrize("dtype, atol", [(np.float64, 2e-8), (np.float32, 2e-6)])
def test_adamw_and_clipping_agree_with_live_torch(dtype, atol):
    torch = pytest.importorskip("torch", reason="torch is not installed: compared with its stored result only")
    for ours, theirs in zip(our_trajectory(dtype), torch_trajectory(torch, dtype)):
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)  # float32: entries up to 3 round to 1.2e-7, a few times a step


def test_adamw_needs_gradients_and_changes_nothing_without():
    params = parameters(0)
    before = [p.data.copy() for p in params]
    optimizer = AdamW(params, LR)
    params[0].grad = np.ones(SHAPES[0])
    with pytest.raises(ValueError, match=r"parameter 1, \(7,\), has no gradient; call backward"):
        optimizer.step()
    assert optimizer.steps == 0 and all(np.array_equal(p.data, b) for p, b in zip(params, before))
    with pytest.raises(ValueError, match="no parameters"):
        AdamW([], LR)


def matrices():
    """Parameters of which Muon takes the first three, and their gradients in four steps."""
    shapes = [(3, 3, 2, 16), (16, 40), (17, 16), (3, 3, 20, 3), (40,), (5, 30)]
    rng = np.random.default_rng(0)
    params = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    return params, [[rng.standard_normal(shape) for shape in shapes] for _ in range(4)]


def test_muon_is_its_formula_for_matrices_and_adamw_for_the_rest():
    params, gradients = matrices()
    optimizer, adamw = Muon(params, LR, BETAS, EPS, DECAY, momentum=0.9), AdamW(matrices()[0], LR, BETAS, EPS, DECAY)
    expected, ms = [p.data.copy() for p in params[:3]], [np.zeros(p.shape) for p in params[:3]]
    for grads in gradients:
        for p, q, g in zip(params, adamw.params, grads):
            p.grad = q.grad = g
        optimizer.step(grad_scale=0.5)
        adamw.step(grad_scale=0.5)
        expected, ms, _ = plain.muon_step(expected, grads[:3], ms, None, LR, 0.9, DECAY, 0.5, 0.0)
    for p, q in zip(params, [*expected, *(q.data for q in adamw.params[3:])]):
        np.testing.assert_allclose(p.data, q, rtol=1e-11, atol=1e-13)      # rounding of 1e-16, of which the iteration makes at most 500 times as much
    assert [bool(v.any()) for v in optimizer.v] == [False] * 3 + [True] * 3


def test_muons_step_has_the_size_of_adams_and_is_orthogonal():
    p = Tensor(np.zeros((3, 3, 16, 24)), requires_grad=True)
    p.grad = np.random.default_rng(0).standard_normal(p.shape)
    Muon([p], lr=1.0, weight_decay=0).step()
    step = p.data.reshape(-1, 24)
    assert 0.15 < np.sqrt(np.mean(step ** 2)) < 0.25
    strengths = np.linalg.svd(step / (0.2 * math.sqrt(144)), compute_uv=False)
    assert strengths.min() > 0.6 and strengths.max() < 1.3          # of a gradient whose own are up to 2.4 times apart


def test_clipping_shortens_long_gradients_only():
    params = parameters(0)
    for p, g in zip(params, gradients(1)):
        p.grad = g.copy()
    length = math.sqrt(sum((g**2).sum() for g in gradients(1)))
    assert clip_grad_norm(iter(params), 2 * length) == pytest.approx(length, rel=1e-14)
    assert all(np.array_equal(p.grad, g) for p, g in zip(params, gradients(1)))
    assert clip_grad_norm(params, 0.5) == pytest.approx(length, rel=1e-14)
    assert grad_norm(params) == pytest.approx(0.5, rel=1e-14)
    np.testing.assert_allclose(params[0].grad, gradients(1)[0] * (0.5 / length), rtol=1e-14)


def test_gradients_of_zero_are_left_alone():
    params = parameters(0)
    for p in params:
        p.grad = np.zeros(p.shape)
    assert clip_grad_norm(params, 1.0) == 0 and not params[0].grad.any()


def test_ema_is_its_formula():
    model = Holder(parameters(0))
    ema = EMA(model, max_decay=0.6, power=2 / 3)
    average = [p.data.copy() for p in model.parameters()]
    decays = []
    for n in range(6):
        d = min(0.6, 1 - (1 + n) ** (-2 / 3))
        decays.append(d)
        for i, (p, g) in enumerate(zip(model.parameters(), gradients(n))):
            p.data = g
            average[i] = d * average[i] + (1 - d) * g
        ema.update()
    assert decays[0] == 0 and decays[-1] == 0.6 and 0 < decays[1] < decays[2] < 0.6
    for p, q in zip(ema.model.parameters(), average):
        np.testing.assert_allclose(p.data, q, rtol=1e-12, atol=1e-14)


def test_ema_in_the_optimizers_pass_is_the_ema_after_it():
    results = []
    for fused in (True, False):
        model = Holder(parameters(0))
        ema, optimizer = EMA(model), AdamW(model.parameters(), LR)
        for n in range(4):
            for p, g in zip(model.parameters(), gradients(n)):
                p.grad = g
            optimizer.step(ema=ema) if fused else (optimizer.step(), ema.update())
        assert ema.updates == 4
        results.append([p.data for p in (*ema.model.parameters(), *model.parameters())])
    for p, q in zip(*results):
        np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-14)


def test_ema_of_another_network_is_refused():
    model, other = Holder(parameters(0)), Holder(parameters(0))
    ema, optimizer = EMA(other), AdamW(model.parameters(), LR)
    for p, g in zip(model.parameters(), gradients(0)):
        p.grad = g
    with pytest.raises(ValueError, match="not those of the network"):
        optimizer.step(ema=ema)
    assert optimizer.steps == 0 and np.array_equal(model.a.data, other.a.data)


def test_the_learning_rate_climbs_then_falls_to_nothing():
    rates = [warmup_cosine(n, 1000, 100) for n in range(1000)]
    assert rates[0] == 0.01 and rates[49] == 0.5 and rates[99] == rates[100] == 1
    assert rates[550] == pytest.approx(0.5) and 0 < rates[999] < 1e-5
    assert all(a > b for a, b in zip(rates[100:], rates[101:]))


def test_the_warm_up_is_at_most_a_tenth_of_the_run():
    assert [n for n in range(50) if warmup_cosine(n, 50, 200) == 1] == [4, 5]
    assert warmup_cosine(0, 5, 200) == 1
