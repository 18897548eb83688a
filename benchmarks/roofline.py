"""The roofline picture of the kernels: how near each comes to what the machine can do (Williams, Waterman and Patterson 2009).

From left to right, operations for each byte that must move; upwards, operations a second. The roof is memory's bandwidth on the left and the
peak of multiply-adds on the right. A dashed roof, four times as high, is the peak as Winograd's F(4x4,3x3) counts: it needs 36
multiplications where the definition has 144.
"""
from tinydiff.report.charts import log_ticks
from tinydiff.report.pictures import INK, MUTED

from charts import COLOURS, SCALE, Chart, canvas, powers, save

WINOGRAD = 4
KINDS = {"3x3, s": "3x3 of stride 2", "3x3, 3": "3x3 from or to 3 channels", "3x3": "3x3 convolutions (Winograd)", "1x1": "1x1 convolutions",
         "GroupNorm": "GroupNorm", "attention": "attention"}
REST = "the rest"


def kind(group):
    return next((words for start, words in KINDS.items() if group.startswith(start)), REST)


def draw(rows, peaks, path, width=1200, height=760):
    """rows: the figures of kernels.py; peaks: gflops and gb_per_s. Kernels that only move data have no place in it."""
    rows = [row for row in rows if row.get("flop")]
    x = [row["flop"] / row["bytes"] for row in rows]
    rates = [{label: row["flop"] / ms / 1e6 for label, ms in row["ms"].items()} for row in rows]
    every = [rate for by_label in rates for rate in by_label.values()]
    x_range = min([0.1, *x]) / 1.3, max([500, *x]) * 1.3
    y_range = min([peaks["gb_per_s"], *every]) / 1.5, 1.3 * max([1.2 * WINOGRAD * peaks["gflops"], *every])
    image, pen = canvas(width, height)
    chart = Chart(pen, (84, 92, width - 36, height - 78), x_range, y_range)
    chart.axes("Kernels of the reference training step under the machine's roofline", "operations a byte of inputs and results",
               "GFLOP/s, operations of the definition", powers(*x_range), log_ticks(*y_range))
    peak, memory = peaks["gflops"], peaks["gb_per_s"]
    start, corner = max(x_range[0], y_range[0] / memory), peak / memory
    chart.line([(start, start * memory), (corner, peak), (x_range[1], peak)], INK, 2)
    chart.line([(corner, peak), (WINOGRAD * corner, WINOGRAD * peak), (x_range[1], WINOGRAD * peak)], MUTED, 2, dashed=True)
    for words, colour, place, anchor in (
            (f"multiply-adds: {peak:.0f} GFLOP/s", INK, (corner / 1.1, peak), "rm"),
            (f"as Winograd counts: {WINOGRAD * peak:.0f}", MUTED, (WINOGRAD * corner / 1.1, WINOGRAD * peak), "rm"),
            (f"memory: {memory:.0f} GB/s", INK, (corner / 8, peak / 7), "rm")):
        at = chart.place(*place)
        chart.text(at[0] / SCALE, at[1] / SCALE, words, anchor, colour)
    colours = dict(zip([*KINDS.values(), REST], COLOURS))
    for row, place, by_label in zip(rows, x, rates):
        theirs = [rate for label, rate in by_label.items() if label != "tinydiff"]
        if theirs:
            chart.point(place, max(theirs), colours[kind(row["group"])], hollow=True, radius=5)
    for row, place, by_label in zip(rows, x, rates):
        chart.point(place, by_label["tinydiff"], colours[kind(row["group"])])
    seen = [(words, colour, False) for words, colour in colours.items() if any(kind(row["group"]) == words for row in rows)]
    if any(len(row["ms"]) > 1 for row in rows):
        seen.append(("PyTorch, its faster layout", MUTED, True))
    chart.legend(seen, width - 290, height - 100 - 24 * len(seen))
    save(image, path)
