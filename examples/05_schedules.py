"""Draws the noise schedules side by side and prints what they leave of a picture at a few times.

    python examples/05_schedules.py                       all of them, to runs/schedules.png
    python examples/05_schedules.py cosine flow --T 100 --out two.png

x_t = alpha x_0 + sigma eps. Look at the log SNR, 2 ln(alpha/sigma): where it is steep, a sampler's step changes much; where it is flat, the
training spends its time. Only flow and the zero-terminal-SNR schedules reach noise alone, alpha = 0.

Read next: tinydiff/diffusion/schedules.py, then times.py, which times a sampler stops at. The next example is 06_guidance.py.
"""
import argparse
from pathlib import Path

import numpy as np

from tinydiff.diffusion import SCHEDULES
from tinydiff.report import schedules_png

POINTS = 5      # times in the table, from t = 0 to T-1


def table(schedules):
    """Lines of text: alpha, sigma and log SNR of each schedule at POINTS times."""
    lines = []
    for name, schedule in schedules.items():
        t = np.linspace(0, schedule.T - 1, POINTS)
        alpha, sigma = schedule.at(t)
        with np.errstate(divide="ignore"):
            log_snr = 2 * np.log(alpha / sigma)
        rows = (("t", [f"{time:.0f}" for time in t]), *((label, [f"{value:.3g}" for value in values])
                for label, values in (("alpha", alpha), ("sigma", sigma), ("log SNR", log_snr))))
        lines.append(name)
        lines += [f"  {label:<8}" + "".join(f"{cell:>10}" for cell in cells) for label, cells in rows]
    return lines


def main():
    parser = argparse.ArgumentParser(description="Draw noise schedules side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"schedules to draw: {', '.join(SCHEDULES)} (all)")
    parser.add_argument("--T", type=int, default=1000, help="diffusion steps (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/schedules.png"), metavar="FILE", help="where the picture goes (%(default)s)")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in SCHEDULES]
    if unknown:
        parser.error(f"unknown schedule {unknown[0]!r}; choose from {', '.join(SCHEDULES)}")
    try:
        schedules = {name: SCHEDULES[name](args.T) for name in args.names or SCHEDULES}
    except ValueError as error:
        parser.error(str(error))
    print("\n".join(table(schedules)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    schedules_png(schedules, args.out)
    print(f"The curves: {args.out}")


if __name__ == "__main__":
    main()
