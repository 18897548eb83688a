"""Training: from pictures and a network to a network that can draw.

    optim.py       AdamW, Muon, clipping, the learning rate over a run, the running average of the weights
    streams.py     what each random draw is keyed by
    batches.py     what a step is computed from
    config.py      TrainConfig: what a run is asked to do
    trainer.py     the loop
    budget.py      how many steps fit into the time there is
    ranks.py       the processes that share a run: here one; `tinydiff.mpi` has more
    pretrained.py  the network that comes with tinydiff, to draw with at once
    checkpoint.py  a run on disk, to go on from; log.py its log; interrupt.py Ctrl-C

Read first: `nn/unet.py`, `diffusion/losses.py`.
"""
from tinydiff.training.batches import gaussian_of
from tinydiff.training.budget import Pace, mean_time, measure_pace, steps_within
from tinydiff.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tinydiff.training.config import TrainConfig
from tinydiff.training.optim import EMA
from tinydiff.training.pretrained import load_pretrained
from tinydiff.training.ranks import Ranks
from tinydiff.training.trainer import Trainer, TrainingDiverged

__all__ = ["Checkpoint", "EMA", "Pace", "Ranks", "TrainConfig", "Trainer", "TrainingDiverged", "gaussian_of", "load_checkpoint", "load_pretrained",
           "mean_time", "measure_pace", "save_checkpoint", "steps_within"]
