"""A whole diffusion model, small enough to see: points in the plane instead of pictures, a rolled-up line instead of cats.

    python examples/04_swiss_roll.py        half a minute; it prints, and draws runs/swiss_roll.png and runs/swiss_roll_samples.png

You will see noise dissolve the roll, a network learn which way is out of the noise (a field of arrows, another at each time), and six
samplers follow the arrows back, from noise to new points on the roll. But for the network and the drawing it's all as for the cats: a
picture of 64 x 64 x 3 numbers is a point, too.

Read next: tinydiff/diffusion/, in the order that its __init__.py gives; tinydiff/training/trainer.py. The next example is 05_schedules.py.
"""
from pathlib import Path

import numpy as np

import tinydiff as td
from tinydiff.nn.unet import time_embedding
from tinydiff.report import arrows, point_cloud

STEPS, BATCH, LR = 8000, 256, 5e-3
SCHEDULE, TARGET = td.diffusion.cosine(1000), "v"
TIMES = 20, 120, 280, 480, 720, 999         # at which the first picture looks
SAMPLERS = {"ddpm": 1, "ddim": 1, "euler": 1, "heun": 2, "dpmpp_2m": 1, "unipc": 1}     # how often each asks the network in a step
SAMPLER_STEPS = 5, 10, 50
SHOWN = 2500                                # points in a picture
OUT = Path("runs")


def swiss_roll(n, rng):
    """n points on the roll, (n,2) float32, about 1 in size, and how far along it each one lies, (n,), 0 (inside) to 1."""
    along = rng.random(n) ** 0.6            # more outside, where the way round is longer
    angle = 3 * np.pi * (0.25 + along)
    points = angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1) / 6
    return (points + 0.03 * rng.standard_normal((n, 2))).astype(np.float32), along


class Network(td.nn.Module):
    """(points (N,2), times (N,)) -> (N,2). It is told the time by waves, as the U-Net is; y would be labels."""

    def __init__(self, rng, width=128, waves=32):
        sizes = 2 + waves, width, width, width, 2
        self.linear, self.waves = [td.nn.Linear(C, F, rng=rng) for C, F in zip(sizes, sizes[1:])], waves

    def __call__(self, x, t, y=None):
        h = td.ops.concat([x, time_embedding(t, self.waves).astype(np.float32)])            # (N,2+32)
        for linear in self.linear[:-1]:
            h = td.ops.silu(linear(h))                                                      # (N,128)
        return self.linear[-1](h)                                                           # (N,2)


def train(model):
    """Trains the model; yields the loss of each step, and the average of its last weights, the better network of the two."""
    optimizer, ema = td.optim.AdamW(model.parameters(), LR, weight_decay=0), td.optim.EMA(model)
    for step in range(STEPS):
        rng = np.random.default_rng([0, step])
        x0, _ = swiss_roll(BATCH, rng)
        t = td.diffusion.training_times(SCHEDULE, BATCH, "stratified", rng)                 # (N,)
        eps = rng.standard_normal(x0.shape).astype(np.float32)
        loss = td.diffusion.loss(model, SCHEDULE, TARGET, x0, t, eps)       # it sees x_t = alpha_t x0 + sigma_t eps: what is x0, what eps?
        model.zero_grad()
        loss.backward()
        optimizer.lr = LR * td.optim.warmup_cosine(step, STEPS, 100)
        optimizer.step(ema=ema)
        yield float(loss.data), ema.model


def nearest(a, b):
    """For each point of a (n,2): how far the nearest point of b (m,2) is, and which one that is, (n,) each."""
    squares = (a * a).sum(1)[:, None] - 2 * a @ b.T + (b * b).sum(1)                        # (n,m)
    return np.sqrt(np.maximum(squares.min(axis=1), 0)), squares.argmin(axis=1)


def field(denoise, t, panel, n=15):
    """The panel with n x n arrows on it, from places x against the noise that the network sees there: (alpha_t x0 - x) / sigma_t."""
    ticks, (alpha, sigma) = np.linspace(-2.4, 2.4, n), SCHEDULE.at(t)
    x = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(n * n, 2).astype(np.float32)
    way = (alpha * denoise(x, t) - x) / sigma
    length = np.linalg.norm(way, axis=1, keepdims=True)                                     # (n n,1)
    return arrows(panel, x, way * np.minimum(0.2 * np.sqrt(length), 0.3) / length)          # shortened, to have room


def there_and_back(denoise, x0, along):
    """Draws forward process, field and reverse process. Returns the noise x_T that the way back began with, and where it led: along, (N,)."""
    eps = np.random.default_rng(2).standard_normal(x0.shape).astype(np.float32)
    forward = [point_cloud(td.diffusion.q_sample(SCHEDULE, x0, t, eps), along) for t in TIMES]
    x_T = td.diffusion.initial_noise(SCHEDULE, x0.shape)                                    # (N,2), and from here back
    stops = np.union1d(np.linspace(0, 999, 51), TIMES)[::-1]
    x = {999: x_T} | {step.t: step.x for step in td.diffusion.ddim(denoise, SCHEDULE, x_T, stops)}
    end = along[nearest(x[-1], x0)[1]]                                                      # t = -1 is the end: clean
    save([forward, [field(denoise, t, panel) for t, panel in zip(TIMES, forward)], [point_cloud(x[t], end) for t in TIMES]],
         [f"t = {t}\nsigma = {SCHEDULE.at(t)[1]:.2f}" for t in TIMES],
         ["To the right, forward: the roll in more and more noise", "The network: which way is out of the noise?",
          "To the left, back: noise follows the arrows (ddim). A point has the colour of where it will end"], "swiss_roll.png")
    return x_T, end


def compare_samplers(denoise, x_T, end, x0):
    """Prints how far from the roll each sampler ends after few steps and after more, and draws where; colours by `end`, so by place in x_T."""
    print("   sampler    asks a step" + "".join(f"{steps:6} steps" for steps in SAMPLER_STEPS))
    rows = [[] for _ in SAMPLER_STEPS]
    for name, asks in SAMPLERS.items():
        line = f"   {name:<10} {asks:11}"
        for steps, row in zip(SAMPLER_STEPS, rows):
            *_, last = td.diffusion.SAMPLERS[name](denoise, SCHEDULE, x_T, steps)
            row.append(point_cloud(last.x, end, reach=2.1))
            line += f"{nearest(last.x, x0)[0].mean():12.3f}"
        print(line)
    save(rows, list(SAMPLERS), [f"{steps} steps. A point has the colour of where in the noise it began" for steps in SAMPLER_STEPS],
         "swiss_roll_samples.png")


def save(rows, captions, titles, name):
    OUT.mkdir(parents=True, exist_ok=True)
    td.report.strip(np.array(rows), captions, titles, scale=1).quantize(256).save(OUT / name)      # 256 colours are enough, and a third of the file
    print(f"   drawn: {OUT / name}\n")


def main():
    rng, losses = np.random.default_rng(1), []
    print("Training. The loss can't fall to 0: a noisy point may come from many clean ones.\n")
    for loss, average in train(Network(rng)):
        losses.append(loss)
        if len(losses) % (STEPS // 8) == 0:
            print(f"   step {len(losses):5,}   loss {np.mean(losses[-(STEPS // 8):]):.3f}")
    denoise = td.diffusion.denoiser(average, SCHEDULE, TARGET)      # (x, t) -> a guess of x0: all that a sampler knows of a network
    x0, along = swiss_roll(SHOWN, rng)
    print("\nThe roll in noise, the field, and noise on its way to the roll.\n")
    x_T, end = there_and_back(denoise, x0, along)
    print(f"How far new points are from the roll, on average. ({nearest(swiss_roll(SHOWN, rng)[0], x0)[0].mean():.3f} would be perfect.)\n")
    compare_samplers(denoise, x_T, end, x0)
    print("ddim and euler are one method. heun asks twice a step, so compare its 5 with 10.")
    print("ddpm adds noise all along: where a point ends no longer hangs on where it began.")


if __name__ == "__main__":
    main()
