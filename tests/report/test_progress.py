"""What the terminal gets: rows alone in a file, a live line on a terminal of any width, no character that the stream can't write."""
import io

import pytest

from tinydiff.report import LiveLine, Progress, writes_unicode
from tinydiff.report.progress import bar, duration, table_row


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True

    def screen(self):
        """What is to be seen at the end: a carriage return goes back, what comes then is written over."""
        lines = [""]
        for character in self.getvalue():
            if character == "\n":
                lines.append("")
                self.column = 0
            elif character == "\r":
                self.column = 0
            else:
                column = getattr(self, "column", 0)
                lines[-1] = lines[-1][:column] + character + lines[-1][column + 1:]
                self.column = column + 1
        return [line.rstrip() for line in lines]


class AsciiTerminal(Terminal):
    encoding = "ascii"


def row(step, **more):
    return {"step": step, "epoch": 1, "loss": 0.5, "images_per_second": 12.3, **more}


def run(stream):
    progress = Progress(total_steps=20, epochs=2, stream=stream)
    for step in range(1, 11):
        progress.step(row(step))
    progress.epoch({"epoch": 1, "loss": 0.5, "held_out_loss": 0.25})
    return stream


def test_a_file_gets_the_table_alone():
    text = run(io.StringIO()).getvalue()
    assert "\r" not in text and "\x1b" not in text
    header, line = text.splitlines()
    assert header.split(" | ")[1:3] == ["   loss", "held-out loss"]
    assert line.startswith("    1 |  0.5000 |        0.2500 | ")
    assert header.index("|") == line.index("|") and header.rindex("|") == line.rindex("|")


def test_a_terminal_ends_with_the_same_table():
    assert run(Terminal()).screen() == run(io.StringIO()).getvalue().split("\n")


def test_the_live_line_tells_epoch_step_loss_speed_and_time_left(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    clock = iter([100.0, 102.0, 104.0])
    monkeypatch.setattr("tinydiff.report.progress.time.monotonic", lambda: next(clock))
    stream = Terminal()
    progress = Progress(total_steps=20, epochs=2, stream=stream)
    for step in (1, 2, 3):
        progress.step(row(step))
    line = stream.screen()[-1]
    assert line.startswith("epoch 1/2  step 3/20  loss 0.5000  12.3 images/s  34 s left  ")        # 17 steps of 2 s


@pytest.mark.parametrize("width", [10, 24, 47, 80, 200])
def test_the_live_line_stays_within_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = run(Terminal())
    live = [line for line in stream.getvalue().replace("\n", "\r").split("\r") if line.startswith("epoch 1")]
    assert live and max(map(len, live)) < width


def test_a_shorter_line_leaves_nothing_of_the_longer_one():
    stream = Terminal()
    line = LiveLine(stream)
    line.show(["a long line", "of words"])
    line.show(["short"])
    assert stream.screen() == ["short"]
    line.clear()
    assert stream.screen() == [""]


def test_a_terminal_without_unicode_gets_ascii():
    assert run(AsciiTerminal()).getvalue().isascii()
    assert not run(Terminal()).getvalue().isascii()
    assert bar(0.5, AsciiTerminal(), width=4) == "[##--]" and bar(0.5, Terminal(), width=4) == "██░░"
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=name) for name in ("utf-8", "ascii", "latin-1", "cp1252")]
    assert [writes_unicode(stream) for stream in streams] == [True, False, False, False]


def test_a_resumed_run_remembers_its_past():
    stream = io.StringIO()
    progress = Progress(20, 2, history=[{"epoch": 1, "loss": 0.5, "held_out_loss": 0.5}], start=10.0, stream=stream)
    progress.step(row(11, loss=0.4))
    progress.epoch({"epoch": 2, "loss": 0.4, "held_out_loss": 0.4})
    assert "learning: loss down 20% in 1 epoch" in stream.getvalue()


@pytest.mark.parametrize("seconds, words", [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3600, "60 min"), (5 * 3600 + 290, "5 h 05 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_row_without_held_out_pictures():
    assert table_row({"epoch": 12, "loss": 0.125, "held_out_loss": None}, "learning") == "   12 |  0.1250 |             - | learning"
