"""How the time of a training step grows: with the batch, the pixels, the channels; and how it falls with the threads.

    python benchmarks/scaling.py [--rounds 3] [--json scaling.json] [--picture scaling.png]

The reference U-Net's step (forward, backward, gradient clipping, AdamW, EMA), one setting changed at a time. For the threads, processes with
1, 2, 4, ... threads, up to all cores, take their steps in turn; every other series runs on all threads. In turn with these, two processes of one
thread take steps at the same time: they share no work, and what they lose against one alone is the machine's.
"""
import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from contenders import Contender, serve, write_json
from machine import THREADS, header

BATCH, SIZE, CHANNELS = 16, 64, 32
SERIES = {"batch": (1, 2, 4, 8, 16, 32, 64), "pixels a side": (32, 48, 64, 96, 128), "channels": (16, 24, 32, 48, 64)}
QUICK_SERIES = {"batch": (1, 2), "pixels a side": (16, 32), "channels": (16, 24)}


def work():
    """A contender's process: seconds of each of `rounds` steps of the setting asked for, after one that warms up."""
    import numpy as np

    import tinydiff as td
    made = {}

    def answer(batch, size, channels, rounds):
        if made.get("channels") != channels:
            model = td.nn.UNet(td.nn.UNetConfig(channels=channels), rng=np.random.default_rng(0))
            made.update(channels=channels, model=model, optimizer=td.optim.AdamW(model.parameters(), lr=1e-5), ema=td.optim.EMA(model))
        model, optimizer, rng, seconds = made["model"], made["optimizer"], np.random.default_rng(0), []
        x, target = (rng.standard_normal((batch, size, size, 3), dtype=np.float32) for _ in range(2))
        t = rng.uniform(0, 1000, batch).astype(np.float32)
        for _ in range(rounds + 1):
            start = time.perf_counter()
            model.zero_grad()
            td.ops.mse(model(x, t), target).backward()
            optimizer.step(grad_scale=1 / max(td.optim.grad_norm(optimizer.params), 1), ema=made["ema"])
            seconds.append(time.perf_counter() - start)
        return dict(seconds=seconds[1:])
    serve(answer)


def thread_counts():
    """1, 2, 4, ... and as many as there are."""
    return sorted({2 ** k for k in range(THREADS.bit_length()) if 2 ** k <= THREADS} | {THREADS})


def measure_series(series, rounds, base):
    """name -> rows of one value's figures; `base`: batch, size and channels of what isn't changed."""
    contender, tables = Contender("all threads"), {}
    for name, values in series.items():
        tables[name] = []
        for value in values:
            setting = base | {{"batch": "batch", "pixels a side": "size", "channels": "channels"}[name]: value}
            median = statistics.median(contender.ask(**setting, rounds=rounds)["seconds"])
            tables[name].append(dict(value=value, ms=1e3 * median, images_per_second=setting["batch"] / median))
    contender.close()
    return tables


def measure_threads(rounds, base):
    """Rows of each number of threads; their steps are taken in turn, and the speeds compared round by round. And the speed of two processes of one
    thread together, each in the first of two steps, while the other is sure to be at work too."""
    counts = thread_counts()
    contenders = [Contender(f"{n} threads", NUMBA_NUM_THREADS=str(n)) for n in counts]
    pair = [Contender("one of two", NUMBA_NUM_THREADS="1") for _ in range(2)]

    def first_of(steps, contender):
        return contender.ask(**base, rounds=steps)["seconds"][0]

    seconds, together = [[] for _ in counts], []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            for contender, times in zip(contenders, seconds):
                times.append(first_of(1, contender))
            together.append(sum(seconds[0][-1] / one for one in pool.map(first_of, [2, 2], pair)))
    for contender in contenders + pair:
        contender.close()
    return [dict(value=n, ms=1e3 * statistics.median(times), images_per_second=base["batch"] / statistics.median(times),
                 speed=statistics.median(one / several for one, several in zip(seconds[0], times)))
            for n, times in zip(counts, seconds)], statistics.median(together)


def draw(tables, base, path, width=1240, height=880):
    """Four charts: milliseconds a step against each setting, beside what plain proportion would give, and the speed against the threads."""
    from tinydiff.report.charts import log_ticks
    from tinydiff.report.pictures import MUTED

    from charts import COLOURS, SCALE, Chart, canvas, save
    image, pen = canvas(width, height)
    names = {"batch": ("batch", 1), "pixels a side": ("size", 2), "channels": ("channels", 2)}
    for place, (name, rows) in enumerate(tables.items()):
        left, top = 84 + place % 2 * (width // 2), 92 + place // 2 * (height // 2)
        box = (left, top, left + width // 2 - 130, top + height // 2 - 170)
        x, key = [row["value"] for row in rows], "speed" if name == "threads" else "ms"
        y = [row[key] for row in rows]
        if name == "threads":
            proportion = x
            title, y_name = "Speed against the threads", "times the speed of one thread"
        else:
            setting, power = names[name]
            middle = min(rows, key=lambda row: abs(row["value"] - base[setting]))
            proportion = [middle["ms"] * (value / middle["value"]) ** power for value in x]
            title, y_name = f"A step against the {name}", "milliseconds"
        low, high = min(y + proportion), max(y + proportion)
        x_range = (x[0] / 1.12, x[-1] * 1.12)
        chart = Chart(pen, box, x_range, (low / 1.3, high * 1.3))
        chart.axes(title, name, y_name, x, log_ticks(low, high))
        chart.line(list(zip(x, proportion)), MUTED, 2, dashed=True)
        chart.line(list(zip(x, y)), COLOURS[place])
        for point in zip(x, y):
            chart.point(*point, COLOURS[place])
        chart.legend([("measured", COLOURS[place], False)], box[2] - 150, box[3] - 62)
        chart.text(box[2] - 126, box[3] - 29, "in proportion" if name in ("batch", "threads") else "with the square", "lm")
        for dash in (box[2] - 151, box[2] - 142):
            pen.line([(SCALE * dash, SCALE * (box[3] - 29)), (SCALE * (dash + 6), SCALE * (box[3] - 29))], MUTED, 2 * SCALE)
    save(image, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each setting; ten times as many for the threads (default 3)")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--picture", metavar="FILE", help="also draw them into FILE, a PNG")
    parser.add_argument("--quick", action="store_true", help="small settings, one round: does it all work?")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        return work()

    print(header())
    base = dict(batch=1, size=16, channels=16) if args.quick else dict(batch=BATCH, size=SIZE, channels=CHANNELS)
    series, rounds = (QUICK_SERIES, 1) if args.quick else (SERIES, args.rounds)
    tables = measure_series(series, rounds, base)
    tables["threads"], together = measure_threads(1 if args.quick else 10 * rounds, base)
    for name, rows in tables.items():
        print(f"\n{name:>14}{'ms a step':>12}{'images/s':>12}" + (f"{'speed':>10}" if name == "threads" else ""))
        for row in rows:
            print(f"{row['value']:14}{row['ms']:12.0f}{row['images_per_second']:12.1f}" + (f"{row['speed']:8.2f} x" if "speed" in row else ""))
    print(f"\ntwo processes of one thread, at the same time: {together:.2f} x the speed of one")
    if args.json:
        write_json(args.json, tables | {"two processes": together})
    if args.picture:
        draw(tables, base, args.picture)


if __name__ == "__main__":
    main()
