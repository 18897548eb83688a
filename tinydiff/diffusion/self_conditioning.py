"""Self-conditioning: the network is also given its own last guess of x_0, and improves on it (Chen, Zhang and Hinton 2022,
arXiv 2208.04202, section 3.2).

A sampler asks for a guess of x_0 at each step and, once it has moved on, forgets it; the next guess starts from nothing. A network with
further input channels can be shown the last one (`UNetConfig(self_condition=True)`), at hardly any cost:

    in sampling  the denoiser keeps its last guess between two calls: `LastGuess`. The sampler knows nothing of it.
    in training  for half of the batches, the network first guesses with nothing to go by, then again with that guess: `loss(...,
                 self_condition=True)`. The first pass builds no graph, so no gradient flows through the guess. The other half keeps the
                 network able to start, where there is no guess yet and zeros stand in its place.

In both, a guess is clipped to [-1, 1], where all pictures lie: with target eps, x_0 at large t is noise divided by a tiny alpha.

Read first: `denoiser.py`, `losses.py`.
"""
import numpy as np


class LastGuess:
    """The guess of x_0 that a denoiser made last, as long as it belongs to the same pictures on their way down."""

    def __init__(self):
        self.reset()

    def reset(self):
        """Forgets it: what comes next are other pictures."""
        self.t = self.x0 = None

    def before(self, x, t):
        """The guess to give the network with x (N,H,W,C) at t, a number or (N,): (N,H,W,C), or None.

        None, because other pictures have begun, where x has another shape or where any t is not below the t of the guess. So two chunks of
        one size that are drawn one after the other know nothing of each other. (Heun's method asks at each time twice; its second
        answer is made without a guess.) A sampler that starts below where the last one stopped must be told apart: `reset()`.
        """
        if self.x0 is None or self.x0.shape != x.shape or np.any(np.greater_equal(t, self.t)):
            return None
        return self.x0

    def keep(self, x0, t):
        """x0 (N,H,W,C) is the newest guess, made at t."""
        self.t, self.x0 = t, np.clip(x0, -1, 1)
