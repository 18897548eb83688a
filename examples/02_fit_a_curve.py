"""What is it to train a network? A small one learns a curve from 60 noisy points.

    python examples/02_fit_a_curve.py       a few seconds; it prints, and draws runs/curve.png

You will see the whole of training, which is four lines whatever the network is; what the network knows after 0, 20, 100, ... steps; when it
begins to learn the noise by heart; and what is left of it without the bends, silu, between its layers.

Read next: tinydiff/nn/module.py and layers.py, what a network is made of, and AdamW in tinydiff/training/optim.py. The next example is
03_convolution.py.
"""
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import tinydiff as td
from tinydiff.report.pictures import ACCENT, CARD, INK

POINTS, NOISE, SEED = 60, 0.1, 0
STOPS = 0, 20, 100, 500, 1500, 5000         # after so many steps we look; the last ends the training
PICTURE = Path("runs/curve.png")


def curve(x):
    """What is to be found out, for x from -1 to 1. The network is never shown it, only points near it."""
    return np.sin(4 * x) + 0.4 * np.sin(13 * x)


def network(rng, bend=td.ops.silu, width=64):
    """(N,1) -> (N,1) in three layers of x w + b. Between them bends: silu(x) = x / (1 + e^-x), near 0 on the left and near x on the right."""
    return td.nn.Sequential(td.nn.Linear(1, width, rng=rng), bend,          # (N,1)  -> (N,64)
                            td.nn.Linear(width, width, rng=rng), bend,      # (N,64) -> (N,64)
                            td.nn.Linear(width, 1, rng=rng))                # (N,64) -> (N,1)


def train(model, x, y):
    """Trains on the points x, y (N,1). Yields (step, loss) at each of STOPS; the first is before any training."""
    optimizer = td.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)
    for step in range(STOPS[-1] + 1):
        optimizer.lr = 0.01 * (1 - step / STOPS[-1])        # ever smaller steps, so that it settles
        loss = td.ops.mse(model(td.Tensor(x)), y)           # forward: how wrong is it?
        if step in STOPS:
            yield step, float(loss.data)
        model.zero_grad()
        loss.backward()                                     # backward: for each parameter, which way is up?
        optimizer.step()                                    # a small step the other way


def answers(model, x):
    """What the network says at x (N,): (N,)."""
    with td.no_grad():                                      # nothing is kept for a backward that won't come
        return model(td.Tensor(x[:, None].astype(np.float32))).data[:, 0]


def text_plot(model, x, y, width=74, height=15):
    """Lines of text: the points as o, the network's curve as *; both axes from left to right and bottom to top, y from -1.5 to 1.5."""
    cells = np.full((height, width), " ")

    def put(across, up, mark):
        row = np.rint((0.5 - up / 3) * (height - 1)).astype(int)
        column = np.rint((across + 1) / 2 * (width - 1)).astype(int)
        inside = (0 <= row) & (row < height)
        cells[row[inside], column[inside]] = mark
    across = np.linspace(-1, 1, width)
    put(across, answers(model, across), "*")
    put(x[:, 0], y[:, 0], "o")
    return [" |" + "".join(row).rstrip() for row in cells] + [" +" + "-" * width]


def panel(model, x, y, title, width=400, height=260, s=3):
    """(height,width,3) uint8: the points, the curve behind them in grey and what the network says of it. Drawn s times as large: smooth lines."""
    image = Image.new("RGB", (width * s, height * s), CARD)
    draw = ImageDraw.Draw(image)

    def pixels(across, up):
        return list(zip(s * width * (0.5 + 0.47 * across), s * height * (0.53 - up / 3.5)))
    across = np.linspace(-1, 1, 300)
    draw.line(pixels(across, curve(across)), (74, 80, 94), 3 * s, "curve")
    for point in pixels(x[:, 0], y[:, 0]):
        draw.circle(point, 3 * s, (94, 200, 229))
    draw.line(pixels(across, answers(model, across)), ACCENT, 3 * s, "curve")
    draw.text((10 * s, 8 * s), title, INK, font_size=17 * s)
    return np.asarray(image.reduce(s))


def main():
    rng = np.random.default_rng(SEED)
    x = rng.uniform(-1, 1, (POINTS, 1)).astype(np.float32)                              # (N,1)
    y = (curve(x) + NOISE * rng.standard_normal(x.shape)).astype(np.float32)            # (N,1)
    everywhere = np.linspace(-1, 1, 500)
    model = network(rng)
    print(f"{POINTS} points, and a network of {sum(p.size for p in model.parameters()):,} parameters:\n{model}\n")

    print("The loss is the mean square of what it is off at the points. The curve itself is")
    print(f"off by their noise alone, {np.mean((curve(x) - y) ** 2):.4f}: less than that is noise learnt by heart.\n")
    print("  step      loss    off from the curve (mean square, everywhere)")
    panels, plots = [], {}
    for step, loss in train(model, x, y):
        off = np.mean((answers(model, everywhere) - curve(everywhere)) ** 2)
        print(f"{step:6,} {loss:9.4f} {off:9.4f}")
        panels.append(panel(model, x, y, f"step {step:,}, loss {loss:.4f}"))
        plots[step] = text_plot(model, x, y)
    for step in STOPS[2], STOPS[-1]:
        print(f"\nThe points, o, and what the network says after {step:,} steps, *:")
        print("\n".join(plots[step]))

    straight = network(rng, bend=lambda x: x)
    *_, (step, loss) = train(straight, x, y)
    slope, height = np.polyfit(x[:, 0], y[:, 0], 1)
    print(f"\nThe same without silu, after {step:,} steps: loss {loss:.4f}.")
    print(f"Three layers of x w + b are one. The best straight line has {np.mean((slope * x + height - y) ** 2):.4f}.")

    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    td.report.grid(np.stack(panels), columns=3, scale=1).save(PICTURE)
    print(f"How it learns: {PICTURE}")


if __name__ == "__main__":
    main()
