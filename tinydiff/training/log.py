"""log.csv: a row for every step, written as it happens, so that a run can be watched, plotted, and resumed with its history.

Read first: `trainer.py`.
"""
import csv
import io
import reprlib
from pathlib import Path

from tinydiff.training.files import whole_file

FIELDS = ("step", "epoch", "loss", "held_out_loss", "grad_norm", "lr", "seconds")
ADVICE = "move it away to resume without the history"
WHOLE = ("step", "epoch")  # the columns that hold integers; the others hold floats


def write_log(path: Path, rows: list[dict]) -> None:
    """A new log with these rows, in place of what was there. At any moment there is the one or the other, whole."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(rows)
    with whole_file(path) as file:
        file.write(text.getvalue().encode())


def append_row(path: Path, row: dict) -> None:
    """One more row, in the file when this returns. None becomes an empty cell; floats keep every digit.

    Raises FileNotFoundError where there is no log: a new one would lack its first rows.
    """
    with open(path, "r+", newline="", encoding="utf-8") as file:
        file.seek(0, io.SEEK_END)
        csv.DictWriter(file, FIELDS).writerow(row)


def read_log(path: Path, last_step: int) -> list[dict]:
    """The rows up to last_step, as they were written; [] without a file.

    A run that was killed has logged steps after its last checkpoint, the very last perhaps by half. It will do them again, so they must not be
    counted twice: nothing after last_step is read. Raises ValueError for a file that is no such log, or lacks some of the steps.
    """
    if last_step == 0 or not path.exists():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        try:
            for raw in csv.DictReader(file):
                rows.append({name: _value(name, raw[name]) for name in FIELDS})
                if rows[-1]["step"] >= last_step:
                    break
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{path} is not a training log ({reprlib.repr(str(error))}); {ADVICE}") from None
    steps = [row["step"] for row in rows]
    if not steps or steps != list(range(last_step - len(steps) + 1, last_step + 1)):        # the first may be in a log that was moved away
        raise ValueError(f"{path} does not have each step up to {last_step} once; {ADVICE}")
    return rows


def _value(name, text):
    if name in WHOLE:
        return int(text)
    return None if text == "" else float(text)
