"""log.csv: a row for every step, written as it happens, so that a run can be watched, plotted, and resumed with its history.

Read first: `trainer.py`.
"""
import csv
import io
from pathlib import Path

from tinydiff.training.files import whole_file

FIELDS = ("step", "epoch", "loss", "held_out_loss", "grad_norm", "lr", "seconds")
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
    """One more row, in the file when this returns. None becomes an empty cell; floats keep every digit."""
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, FIELDS).writerow(row)


def read_log(path: Path, last_step: int) -> list[dict]:
    """The rows up to last_step, as they were written; [] without a file.

    A run that was killed has logged steps after its last checkpoint, the very last perhaps by half. It will do them again, so they must not be
    counted twice: nothing after last_step is read. Raises ValueError for a file that is no such log.
    """
    if not path.exists():
        return []
    rows = []
    with open(path, newline="", encoding="utf-8") as file:
        try:
            for raw in csv.DictReader(file):
                rows.append({name: _value(name, raw[name]) for name in FIELDS})
                if rows[-1]["step"] >= last_step:
                    break
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a training log ({error!r}); move it away to resume without the history") from None
    return rows


def _value(name, text):
    if name in WHOLE:
        return int(text)
    return None if text == "" else float(text)
