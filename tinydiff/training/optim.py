"""From gradients to better weights: AdamW, Muon, the clipping of gradients, the learning rate over a run, the running average of the weights.

Read first: `autograd.py`.
"""
import copy
import itertools
import math
from typing import Iterable

import numpy as np

from tinydiff import kernels
from tinydiff.autograd import Tensor
from tinydiff.nn import Module


class AdamW:
    """Adam with decoupled weight decay: Kingma and Ba 2015 (arXiv 1412.6980, algorithm 1), Loshchilov and Hutter 2019 (arXiv 1711.05101,
    algorithm 2).

        m <- beta1 m + (1 - beta1) g            the gradient's running mean
        v <- beta2 v + (1 - beta2) g^2          and that of its square
        p <- p - lr (m_hat / (sqrt(v_hat) + eps) + weight_decay p)

    with m_hat = m / (1 - beta1^n), v_hat = v / (1 - beta2^n) at the n-th step, which undoes the start from zero.
    `lr` may be changed between steps. m and v are lists of arrays, in the order of params.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.01):
        self.params = list(params)
        if not self.params:
            raise ValueError("AdamW: no parameters; give it model.parameters()")
        self.lr, self.betas, self.eps, self.weight_decay = lr, betas, eps, weight_decay
        self.steps = 0
        self.m = [np.zeros(p.shape, p.dtype) for p in self.params]
        self.v = [np.zeros(p.shape, p.dtype) for p in self.params]

    def step(self, grad_scale: float = 1.0, ema: "EMA | None" = None) -> None:
        """One step against grad_scale times the gradients. `ema`, where given, is updated in the same pass over the weights.

        Raises ValueError where a parameter has no gradient, or where `ema` follows other parameters; nothing has changed then.
        """
        for i, p in enumerate(self.params):
            if p.grad is None:
                raise ValueError(f"AdamW.step: parameter {i}, {p.shape}, has no gradient; call backward() on the loss first")
        averages, decay = None, 0.0
        if ema is not None:
            averages, decay = ema.start_update(self.params)
        self.steps += 1
        self._update([p.writable() for p in self.params], [p.grad for p in self.params], averages, grad_scale, decay)

    def _update(self, params, grads, averages, grad_scale, decay):
        kernels.adamw_step(params, grads, self.m, self.v, averages, self.lr, *self.betas, self.eps, self.weight_decay, self.steps, grad_scale, decay)


class Muon(AdamW):
    """Muon for the matrices, AdamW for all else. Jordan et al. 2024 ("Muon: An optimizer for hidden layers in neural networks"); the size of
    its steps, which lets one learning rate serve both, is that of Liu et al. 2025 (arXiv 2502.16982, section 2.2).

        m <- momentum m + (1 - momentum) g,   u = momentum m + (1 - momentum) g
        W <- W - lr (0.2 sqrt(max(R, C)) Y + weight_decay W)        Y is the orthogonal matrix next to u (kernels/muon.py)

    AdamW asks of each weight alone how large its gradients have been. A matrix whose gradients all point in few directions is moved along these
    only; Muon moves it as far in every direction that the gradient has. A convolution's weight (K,K,C,F) is a matrix of R = K K C rows. What
    has fewer than `smallest` rows or columns (biases, the factors of GroupNorm, the convolution to the three colours) is AdamW's.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.01, momentum: float = 0.95, smallest: int = 16):
        super().__init__(params, lr, betas, eps, weight_decay)
        self.momentum = momentum
        self._is_matrix = [p.ndim >= 2 and min(p.size // p.shape[-1], p.shape[-1]) >= smallest for p in self.params]

    def _update(self, params, grads, averages, grad_scale, decay):
        chosen = self._is_matrix
        kernels.muon_step(*(_only(chosen, arrays) for arrays in (params, grads, self.m, averages)), self.lr, self.momentum, self.weight_decay,
                          grad_scale, decay)
        rest = [not matrix for matrix in chosen]
        kernels.adamw_step(*(_only(rest, arrays) for arrays in (params, grads, self.m, self.v, averages)), self.lr, *self.betas, self.eps,
                           self.weight_decay, self.steps, grad_scale, decay)


def _only(chosen, arrays):
    """Those of the arrays that are chosen; None stays None."""
    return arrays and [*itertools.compress(arrays, chosen)]


OPTIMIZERS: dict[str, type[AdamW]] = {"adamw": AdamW, "muon": Muon}


class EMA:
    """The running average of a network's weights, which draws better pictures than the weights themselves: `.model`, a copy of the network.

        average <- d average + (1 - d) weights,   d = min(max_decay, 1 - (1 + n)^-power) after n updates

    The first weights are all noise, so d starts at 0 and the average forgets them: after n updates it reaches back over about n^power
    of them, until d comes to max_decay. (Polyak and Juditsky 1992; the warm-up is Crowson's, in k-diffusion.)
    """

    def __init__(self, model: Module, max_decay: float = 0.999, power: float = 2 / 3):
        self.model = copy.deepcopy(model).eval()
        self.model.zero_grad()
        self._source, self._averages = model.parameters(), self.model.parameters()
        self.max_decay, self.power = max_decay, power
        self.updates = 0

    @property
    def decay(self) -> float:
        """What is kept of the average at the next update."""
        return min(self.max_decay, 1 - (1 + self.updates) ** -self.power)

    def update(self) -> None:
        """Moves the average towards the network's weights of now."""
        averages, decay = self.start_update(self._source)
        for average, p in zip(averages, self._source):
            average += (1 - decay) * (p.data - average)

    def start_update(self, params: list[Tensor]) -> tuple[list[np.ndarray], float]:
        """The arrays to move and their decay, counted as one update: for `update`, and for an optimizer that updates both in one pass.

        Raises ValueError unless params are those of the network that is averaged.
        """
        if len(self._source) != len(params) or any(p is not q for p, q in zip(self._source, params)):
            raise ValueError("EMA: the parameters to average are not those of the network that it was made from, in their order")
        decay = self.decay
        self.updates += 1
        return [average.writable() for average in self._averages], decay


def grad_norm(params: Iterable[Tensor]) -> float:
    """The length of the gradient of all parameters as one vector. Non-finite where any entry is."""
    return math.sqrt(kernels.squared_norm([p.grad for p in params]))


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> float:
    """Shortens the gradient of all parameters, as one vector, to max_norm if it is longer. Returns the length that it had.

    Keeps one freak batch from throwing the weights far off. Pascanu, Mikolov and Bengio 2013 (arXiv 1211.5063, algorithm 1).
    """
    params = list(params)
    norm = grad_norm(params)
    if norm > max_norm:
        for p in params:
            p.grad *= max_norm / norm
    return norm


def warmup_cosine(step: int, total_steps: int, warmup: int) -> float:
    """What to multiply the learning rate with at step 0, 1, ..., total_steps - 1: a straight climb, then half a cosine down to (almost) 0.

    Adam's first steps rest on the averages of a few gradients and are best kept small; the last, small again, settle. The climb takes
    `warmup` steps, but at most a tenth of the run. Loshchilov and Hutter 2017 (arXiv 1608.03983, equation 5), without restarts.
    """
    warmup = min(warmup, total_steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total_steps - warmup)))
