"""Contenders: processes that work in turn, when they are asked.

Two libraries in one process disturb each other: the threads of one wait for work by spinning, on the cores that the other computes on. So each
contender is a process of its own, and they are asked in turn, A B A B: a machine that slows down for a while slows all of them.
"""
import json
import os
import statistics
import subprocess
import sys
import time

from machine import describe

SETTLE = 0.01           # seconds from one contender's answer to the next one's question: idle threads have then gone to sleep


class Contender:
    """A process of the running script, started with `--contender NAME`. environment: variables that it sees beside ours."""

    def __init__(self, name, *flags, **environment):
        self.name = name
        self.process = subprocess.Popen([sys.executable, sys.argv[0], "--contender", name, *flags], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=os.environ | environment)

    def ask(self, **question) -> dict:
        """The process's answer. SystemExit where it ended instead; its own error is then on the terminal."""
        time.sleep(SETTLE)
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SystemExit(f"the process of {self.name} ended; its error is above")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def serve(answer):
    """In a contender's process: answer(**question), a dict, for each line of standard input."""
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


def ratio_of_pairs(ours, theirs) -> float:
    """The median of ours / theirs over the rounds: what slowed a whole round cancels."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def write_json(path, figures):
    """The figures, with the machine that they were taken on."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(dict(machine=describe()) | figures, file, indent=2)
