"""Ctrl-C, `kill` and a lost terminal, at a moment that suits.

Read first: `trainer.py`.
"""
import signal
import sys
import threading
from contextlib import contextmanager

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]      # Windows has no SIGHUP


class Terminated(KeyboardInterrupt):
    """The program is asked to end: by `kill`, a shutdown or a batch system (SIGTERM), or because its terminal is gone (SIGHUP).

    number: the signal's. A shell expects the exit status 128 + number.
    """

    def __init__(self, number: int):
        super().__init__(signal.strsignal(number))
        self.number = number


def heed_termination() -> None:
    """From now on SIGTERM and SIGHUP raise Terminated, as Ctrl-C raises KeyboardInterrupt. What `nohup` has switched off stays off."""
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)


def _terminate(number, frame):
    raise Terminated(number)


def interrupt_handlers():
    """{signal: its handler}, of those that would raise KeyboardInterrupt or Terminated in this thread at any moment."""
    if threading.current_thread() is not threading.main_thread():
        return {}                                           # signals reach the main thread alone
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    return {number: handler for number, handler in handlers.items() if handler in (signal.default_int_handler, _terminate)}


@contextmanager
def hold_interrupt():
    """What would raise KeyboardInterrupt inside the block raises it when the block is done, so that no step is left half taken.

    A second Ctrl-C ends the program there and then: nothing can be saved from the middle of a step, and the last checkpoint stays as it is.
    A program that handles a signal in its own way is left to.
    """
    handlers, came = interrupt_handlers(), []

    def note(number, frame):
        came.append(number)
        signal.signal(number, signal.SIG_DFL)
        again = "; Ctrl-C again stops at once" if number == signal.SIGINT else ""
        try:
            print(f"\nstopping after this step{again}", file=sys.stderr, flush=True)
        except OSError:                                     # the terminal is gone
            pass

    for number in handlers:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        handlers[came[0]](came[0], None)


@contextmanager
def leave_at_once():
    """What would raise KeyboardInterrupt ends the program inside the block: for what is done after the first Ctrl-C."""
    handlers = interrupt_handlers()
    for number in handlers:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
