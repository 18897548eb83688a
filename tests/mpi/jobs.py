"""What the tests have the ranks do: `mpiexec -n 2 python -m tests.mpi.jobs NAME FOLDER [WORDS]` calls the function NAME on each.

A job answers with something that JSON knows, written to FOLDER/rank.json, and each rank trains into a folder of its own, FOLDER/rank, so
that what only one should write can be told.
"""
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import numba
import numpy as np

from tests.training.runs import RUN, network, pictures
from tinydiff import mpi
from tinydiff.autograd import Tensor
from tinydiff.training import Trainer, TrainingDiverged, checkpoint, run_folder, trainer as trainer_module
from tinydiff.training.interrupt import heed_termination

# 10 pictures to train on in batches of 7 and 3: for 4 ranks 2+2+2+1 and 1+1+1+0. All that is drawn for a picture is in it.
MIXED = dataclasses.replace(RUN, epochs=50, batch=7, micro_batch=2, label_dropout=0.3, offset_noise=0.1)
LABELS = np.arange(13) % 2


def mixed(out, ranks, recompute=False):
    model, config = network(dropout=0.2, num_classes=2, self_condition=True), dataclasses.replace(MIXED, recompute=recompute)
    return Trainer(model, pictures(labels=LABELS), config, out, ranks)


def plain(out, ranks):
    return Trainer(network(), pictures(), RUN, out, ranks)


def losses(run):
    return [[row["loss"], row["grad_norm"], row["held_out_loss"]] for row in run.history]


def stop_at(step):
    def stop(run, row):
        if row["step"] == step:
            raise KeyboardInterrupt
    return stop


def train(out, ranks):
    """The mixed run to its end; what it wrote."""
    run = mixed(out, ranks)
    run.fit()
    return {"losses": losses(run), "weights": run._weights(), "folder": out.exists()}


def ordered_sums(out, ranks):
    """Gradients whose sum hangs on the order: in float32 1e8 - 1e8 + 1 is 1, and 0 in any other. Then with a rank that has no part."""
    p, q = (Tensor(np.zeros(shape, np.float32), requires_grad=True) for shape in ((2, 3), (5,)))
    mine = [1e8, -1e8, 1.0][ranks.rank]
    ranks.backward((p * mine)[0, 0] + (q * float(ranks.rank))[4], [p, q])
    sums, p.grad, q.grad = [p.grad.tolist(), q.grad.tolist()], None, None
    ranks.backward(None if ranks.rank == 1 else (p * 2.0)[1, 1] + q[0], [p, q])
    return sums + [p.grad.tolist(), q.grad.tolist()]


def buckets(out, ranks):
    """In a step of 6 buckets: how many had started to be summed after each parameter."""
    run, started = plain(out, ranks), []
    mpi.BUCKET = sum(p.size for p in run.optimizer.params) // 6
    add = mpi.Buckets.add

    def counting(self, leaf, gradient):
        add(self, leaf, gradient)
        started.append(len(self.requests))
    mpi.Buckets.add = counting
    run.step()
    return {"started": started, "parameters": len(run.optimizer.params), "buckets": len(ranks._buckets.arrays)}


def recomputed(out, ranks):
    """The first steps of the mixed run, its blocks computed again in backward."""
    run = mixed(out, ranks, recompute=True)
    try:
        run.fit(stop_at(4))
    except KeyboardInterrupt:
        return losses(run)


def resume(out, ranks, folder, until):
    """Goes on with the run in a folder (starts it there, if there is none) until a step."""
    folder = Path(folder)
    at_hand = (folder / "checkpoint.npz").exists()
    ranks.heed_interrupt()                                       # all have looked
    run = Trainer.resume(pictures(labels=LABELS), folder, ranks) if at_hand else mixed(folder, ranks)
    try:
        run.fit(stop_at(int(until)))
    except KeyboardInterrupt:
        pass
    return losses(run)


def diverge(out, ranks):
    """The last rank's pictures are not finite in step 5."""
    run, training_batch = plain(out, ranks), trainer_module.training_batch

    def spoilt(*args):
        batch = training_batch(*args)
        if ranks.rank == ranks.size - 1 and args[3] == 4:
            batch.x0[...] = np.nan
        return batch
    trainer_module.training_batch = spoilt
    try:
        with np.errstate(all="ignore"):
            run.fit()
    except TrainingDiverged as error:
        return {"error": str(error), "step": run.global_step}


def differ(out, ranks, what):
    """The last rank has something of its own."""
    odd = ranks.rank == ranks.size - 1
    image_set, config, model = pictures(), RUN, network()
    if odd and what == "data":
        image_set.images[3, 1, 1, 0] ^= 1
    if odd and what == "settings":
        config = dataclasses.replace(RUN, lr=0.5)
    if odd and what == "weights":
        model.conv_in.bias.writable()[0] += 1
    if odd and what == "code":
        mpi.tinydiff.__version__ = "0.0.older"
    try:
        with ranks.together():
            if odd and what == "fault":
                raise FileNotFoundError("no cats here")
            Trainer(model, image_set, config, out, ranks).fit()
    except (OSError, ValueError) as error:
        return {"error": str(error), "folder": out.exists()}


def interrupt(out, ranks):
    """Trains until Ctrl-C or SIGTERM comes; counts the checkpoints that are written."""
    run, saved = Trainer(network(), pictures(5000), dataclasses.replace(RUN, batch=2), out, ranks), []       # 2,000 steps an epoch

    def count(path, run):
        saved.append(run.global_step)
        checkpoint.save_checkpoint(path, run)
    run_folder.save_checkpoint = count
    try:
        run.fit(ready(out, ranks))
    except KeyboardInterrupt as error:
        return {"step": run.global_step, "saved": saved, "error": type(error).__name__}


def interrupt_saving(out, ranks):
    """Ctrl-C comes while the checkpoint of an epoch is written."""
    run, saved = plain(out, ranks), []

    def save(path, run):
        saved.append(run.global_step)
        os.kill(os.getpid(), signal.SIGINT)
        checkpoint.save_checkpoint(path, run)
    run_folder.save_checkpoint = save
    try:
        run.fit()
    except KeyboardInterrupt:
        return {"step": run.global_step, "saved": saved}


def ready(out, ranks):
    """Writes this process's number once it has taken three steps."""
    def on_step(run, row):
        if row["step"] == 3:
            out.with_suffix(".pid").write_text(str(os.getpid()))
        time.sleep(0.02)
    return on_step


def live(out, ranks):
    """Trains until it is killed."""
    Trainer(network(), pictures(), dataclasses.replace(RUN, epochs=10_000), out, ranks).fit(ready(out, ranks))


def full(out, ranks):
    """Rank 0's disk is full when it has a sheet to write, and the others know nothing of it."""
    def on_step(run, row):
        if ranks.rank == 0 and row["step"] == 2:
            raise OSError("no space left")
    try:
        plain(out, ranks).fit(on_step)
    except OSError as error:
        return {"error": str(error), "folder": out.exists()}


def fail(out, ranks):
    """An error that nobody expects, on one rank only, when its backward is half done."""
    run, add, added = plain(out, ranks), mpi.Buckets.add, []

    def failing(self, leaf, gradient):
        added.append(leaf)
        if ranks.rank == 1 and len(added) > len(self.place) // 2:
            raise RuntimeError("a screw is loose")
        add(self, leaf, gradient)
    mpi.Buckets.add = failing
    run.fit()


def frozen(out, ranks):
    """A parameter that the loss doesn't depend on."""
    p, q = (Tensor(np.zeros(shape, np.float32), requires_grad=True) for shape in ((2, 3), (5,)))
    try:
        ranks.backward((p * 2.0)[0, 0], [p, q])
    except ValueError as error:
        return str(error)


def threads(out, ranks):
    return numba.get_num_threads()


if __name__ == "__main__":
    name, folder, *words = sys.argv[1:]
    ordered = "ordered" in words
    heed_termination()
    ranks = mpi.start(ordered)
    mpi.BUCKET = 5000                                            # several, in these small networks
    out = Path(folder) / str(ranks.rank)
    answer = globals()[name](out, ranks, *(word for word in words if word != "ordered"))
    out.with_suffix(".json").write_text(json.dumps(answer))
