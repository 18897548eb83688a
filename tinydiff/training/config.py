"""TrainConfig: what a training run is asked to do.

Read first: `__init__.py`.
"""
import math
import reprlib
from dataclasses import dataclass
from types import UnionType
from typing import get_args, get_origin, get_type_hints

from tinydiff.diffusion import SAMPLERS, SCHEDULES, TARGETS, TIME_SAMPLINGS, WEIGHTS
from tinydiff.training.optim import OPTIMIZERS

MAX_T = 100_000
MAX_NUMBER = 1e30   # of what a float32 must hold, and JSON, which has no infinity


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults draw recognisable cat faces after 20 epochs of 1,000 photographs of 64 x 64.

    epochs      times that every training picture is seen
    max_steps   optimizer steps after which the run ends, where its epochs have more; None for no such end
    batch       pictures in a step
    micro_batch pictures of a step that are worked on at once, their gradients being added up: less memory; None for all
    recompute   keep less for the backward pass, and compute it again there: `UNet.recompute`
    bfloat16    convolutions round what they multiply to bfloat16 while the network is trained; on a Xeon with AMX: `kernels.bfloat16`
    optimizer   a name in optim.OPTIMIZERS
    lr          the highest learning rate, reached after the warm-up; for AdamW 6e-4 is usual
    betas       AdamW's, for the gradient's mean and its square
    weight_decay  the optimizer's
    warmup      steps in which the learning rate climbs, but at most a tenth of the run
    clip        the longest gradient (as one vector over all parameters) that is taken as it is
    ema_max, ema_power  the running average of the weights, see `optim.EMA`
    flip        mirror half of the pictures, each time drawn anew
    label_dropout  the part of the labels, 0 to 1, that a network with num_classes is trained without, so that it can be guided
    schedule    a name in diffusion.SCHEDULES; T its length
    target      what the network predicts: one of diffusion.TARGETS
    weight      of the loss at each t: one of diffusion.WEIGHTS, or None for min_snr with v and x0, simple otherwise (with edm the same as
                "edm")
    time_sampling  how the times t of a batch are drawn: one of diffusion.TIME_SAMPLINGS
    offset_noise   how much of the noise is shared by all pixels of a channel, see `diffusion.offset_noise`; 0 for none
    held_out    the part of the pictures, 0 to below 1, that is never trained on
    seed        of every random number
    sampler, steps  how pictures are drawn with the result: a name in diffusion.SAMPLERS, and its number of steps
    gaussian    what a Gaussian of the pictures tells isn't learnt (`diffusion.gaussian_share`), and the first of several steps is taken by it alone
                (`diffusion.gaussian_start`). Not for a network with num_classes. offset_noise it takes for brightness, and the network has
                to learn better
    autoguidance    how far they are led away from what the network of an earlier time would draw (`diffusion.autoguide`); 1 for not at all

    Raises ValueError for a value that cannot be.
    """
    epochs: int = 20
    max_steps: int | None = None
    batch: int = 8
    micro_batch: int | None = None
    recompute: bool = False
    bfloat16: bool = False
    optimizer: str = "muon"
    lr: float = 3e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 200
    clip: float = 1.0
    ema_max: float = 0.999
    ema_power: float = 2 / 3
    flip: bool = True
    label_dropout: float = 0.1
    schedule: str = "cosine"
    T: int = 1000
    target: str = "v"
    weight: str | None = None
    time_sampling: str = "stratified"
    offset_noise: float = 0.0
    held_out: float = 0.1
    seed: int = 0
    sampler: str = "ddim"
    steps: int = 50
    gaussian: bool = False
    autoguidance: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "betas", tuple(self.betas))  # JSON gives a list
        for name in ("epochs", "batch", "steps"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("T", self.T >= 2, "at least 2: with one time alone, the least noise and the most would be one and the same")
        self._require("T", self.T <= MAX_T, f"at most {MAX_T:,}")
        for name in ("max_steps", "micro_batch"):
            self._require(name, getattr(self, name) is None or getattr(self, name) >= 1, "at least 1, or None")
        for name in ("lr", "clip"):
            self._require(name, 0 < getattr(self, name) <= MAX_NUMBER, f"above 0 and at most {MAX_NUMBER:g}")
        for name in ("weight_decay", "offset_noise", "autoguidance"):
            self._require(name, 0 <= getattr(self, name) <= MAX_NUMBER, f"from 0 to {MAX_NUMBER:g}")
        for name in ("warmup", "seed"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        self._require("held_out", 0 <= self.held_out < 1, "at least 0 and below 1")
        self._require("label_dropout", 0 <= self.label_dropout <= 1, "from 0 to 1")
        self._require("steps", self.steps <= self.T, f"at most T = {self.T}")
        for name, names in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("target", TARGETS), ("sampler", SAMPLERS),
                            ("weight", (*WEIGHTS, None)), ("time_sampling", TIME_SAMPLINGS)):
            self._require(name, getattr(self, name) in names, "one of " + ", ".join(map(str, names)))
        answers = self.target not in ("eps", "edm") or SCHEDULES[self.schedule](self.T).alpha[-1] > 0
        self._require("target", answers, f"v, flow or x0 with the schedule {self.schedule!r}, which ends where no picture is left: alpha = 0")

    def _require(self, name, holds, what):
        if not holds:
            raise ValueError(f"TrainConfig: {name} is {getattr(self, name)!r}; it must be {what}")

    @property
    def loss_weight(self) -> str:
        """`weight`, or what it stands for where it is None."""
        return self.weight or ("min_snr" if self.target in ("v", "x0") else "simple")


def from_json(kind, values: dict):
    """kind(**values), kind being a dataclass, for values that come out of a file: ValueError unless each has its field's type."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints or not fits(value, hints[name]):
            raise ValueError(f"{kind.__name__}: {reprlib.repr(name)} is {reprlib.repr(value)}")
    return kind(**values)


def fits(value, hint) -> bool:
    """Whether a value out of JSON is of a type: one of int, float, bool, str, None, and of lists, tuples (JSON has lists) and unions of them."""
    kind, of = get_origin(hint), get_args(hint)
    if kind is UnionType:
        return any(fits(value, one) for one in of)
    if kind in (list, tuple):
        any_length = kind is list or of[-1] is Ellipsis
        return isinstance(value, list) and (any_length or len(value) == len(of)) and all(fits(item, of[0]) for item in value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is hint
