"""Ctrl-C works in the tests wherever they run: a shell that starts them in the background has its children ignore it."""
import signal


def pytest_sessionstart():
    signal.signal(signal.SIGINT, signal.default_int_handler)
