"""Ctrl-C at a moment that suits.

Read first: `trainer.py`.
"""
import signal
import sys
import threading
from contextlib import contextmanager


@contextmanager
def hold_interrupt():
    """A Ctrl-C inside the block raises KeyboardInterrupt when the block is done, so that no step is left half taken.

    A second one ends the program there and then: nothing can be saved from the middle of a step, and the last checkpoint stays as it is.
    Does nothing in other threads, which Ctrl-C doesn't reach, or where the program handles Ctrl-C in its own way.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pressed = []

    def note(number, frame):
        pressed.append(number)
        print("\nstopping after this step; Ctrl-C again stops at once", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt
