"""How race.py's PyTorch contenders train: tinydiff's batches, torch's network, loss and optimizers.

The batches (pictures, mirrored or not, times and noise), the targets and the weights are those of tinydiff, as arrays: what is compared is the
speed of the network and the recipe.
"""
import copy
import math

import numpy as np
import torch

from tinydiff.diffusion import SCHEDULES, gaussian_share, q_sample
from tinydiff.diffusion.targets import from_x0_eps
from tinydiff.diffusion.weights import WEIGHTS
from tinydiff.kernels.muon import COEFFICIENTS, ITERATIONS
from tinydiff.training.batches import gaussian_of, training_batch
from tinydiff.training.optim import warmup_cosine
from tinydiff.training.trainer import WEAK_AT

from machine import HAS_BFLOAT16
from torch_unet import TorchUNet, from_torch, load_weights, owner

EMA_EVERY, EMA_AFTER = 10, 100      # steps, in denoising-diffusion-pytorch: how often the average moves, how long it is a copy


class Muon:
    """Muon in torch, for the matrices that tinydiff's takes; the products as few as there."""

    def __init__(self, params, momentum):
        self.params, self.momentum = params, momentum
        self.means = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, lr):
        a, b, c = COEFFICIENTS
        for p, mean in zip(self.params, self.means):
            mean.lerp_(p.grad, 1 - self.momentum)
            u = p.grad.lerp(mean, self.momentum).flatten(1)                     # (F, C K K)
            X = (u if u.shape[0] > u.shape[1] else u.T) / (u.norm() + 1e-7)     # tall
            G, Q = X.T @ X, None
            for k in range(ITERATIONS):
                B = torch.addmm(b * G, G, G, alpha=c)
                B.diagonal().add_(a)
                Q = B if Q is None else Q @ B
                if k < ITERATIONS - 1:
                    G = G @ B @ B
            Y = X @ Q
            Y = Y if u.shape[0] > u.shape[1] else Y.T
            p.sub_(Y.reshape(p.shape), alpha=lr * 0.2 * math.sqrt(max(u.shape)))


class TorchRun:
    """A network in training. as_ours: with tinydiff's learning rate, clipping and average, and bfloat16; else as the published code has them."""

    def __init__(self, config, model, faces, as_ours):
        self.config, self.faces, self.as_ours, self.steps = config, faces, as_ours, 0
        self.net = TorchUNet(model.config)
        load_weights(self.net, model.state_dict())
        self.net = self.net.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net)
        self.weak = None        # as Trainer.weak
        self.schedule = SCHEDULES[config.schedule](config.T)
        self.gaussian = gaussian_of(faces, config.flip) if config.gaussian else None
        params = list(self.net.parameters())
        matrices = [p for p in params if config.optimizer == "muon" and p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= 16]
        chosen = {id(p) for p in matrices}
        self.muon = Muon(matrices, 0.95)
        self.adamw = torch.optim.AdamW([p for p in params if id(p) not in chosen], config.lr, config.betas, weight_decay=0)

    def step(self, total):
        """One step, of `total` where the learning rate falls."""
        config = self.config
        x0, t, eps, _ = training_batch(self.faces, None, config, self.steps, np.float32)
        alpha, sigma = self.schedule.at(t)
        weight = alpha ** 2 if not self.as_ours and config.target == "v" else WEIGHTS[config.loss_weight](self.schedule, config.target, t)
        x_t = q_sample(self.schedule, x0, t, eps)
        target = from_x0_eps(config.target, x0, eps, alpha, sigma) - gaussian_share(self.gaussian, config.target, x_t, alpha, sigma)
        x_t, target = _images(x_t), _images(target)
        lr = config.lr * (warmup_cosine(self.steps, total, config.warmup) if self.as_ours else 1)
        self.net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.as_ours and HAS_BFLOAT16):
            out = self.net(x_t, torch.from_numpy((1000 * t / config.T).astype(np.float32)))
        weight = torch.from_numpy(np.broadcast_to(weight, t.shape).astype(np.float32))[:, None, None, None]
        (weight * (out.float() - target) ** 2).mean().backward()
        if config.target == "v":                            # improved-diffusion doesn't clip
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip)
        self.adamw.param_groups[0]["lr"] = lr
        self.adamw.step()
        self.muon.step(lr)
        self.steps += 1
        self._move_average()
        if self.as_ours and self.weak is None and self.steps >= WEAK_AT * total:
            self.weak = self.averaged_weights()

    @torch.no_grad()
    def _move_average(self):
        config, every = self.config, EMA_EVERY if not self.as_ours and self.config.target == "v" else 1
        if self.steps % every:
            return
        decay = config.ema_max
        if self.as_ours:
            decay = min(decay, 1 - self.steps ** -config.ema_power)
        elif every > 1:                                     # as in ema-pytorch
            decay = min(decay, 1 - (1 + max(0, self.steps - EMA_AFTER)) ** -config.ema_power)
        for average, p in zip(self.average.parameters(), self.net.parameters()):
            average.lerp_(p, 1 - decay)

    def averaged_weights(self):
        """name -> array, as tinydiff has them: copies."""
        return {name: np.array(from_torch(p, owner(self.average, name)), order="C") for name, p in self.average.named_parameters()}


def _images(array):
    """(N,H,W,C) -> (N,C,H,W), in memory as it is: torch's channels_last."""
    return torch.from_numpy(np.ascontiguousarray(array)).permute(0, 3, 1, 2)
