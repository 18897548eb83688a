"""Files that are whole whenever one looks, and a folder that only one run writes to.

Read first: `log.py`.
"""
import os
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:                                         # Windows has other locks
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole_file(path: Path, before: Path | None = None):
    """A binary file to be written, which takes its name at the end of the block, when all of it is on the disk.

    Whatever happens until then, a power cut included, the name stands for what it stood for. On an error nothing is left behind.
    before: the name that the file which is there gets; without it, that file is gone.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.strerror and error.filename is None:
            error.filename = str(path)                      # what couldn't be written: the system doesn't say
        raise
    if before is not None and path.exists():
        os.replace(path, before)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Sees to it that what is in a file, or the names in a folder, are on the disk before anything that is written later."""
    if os.name != "posix":
        return                                              # elsewhere that asks for a file that is open for writing
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def only_run_in(folder: Path):
    """Raises ValueError where another process is inside such a block for the same folder. A process that dies has left it.

    Does nothing where the system (Windows) or the file system (some that are shared over a network) has no such locks.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {folder} right now; wait for it, stop it, or take another folder") from None
        except OSError:
            pass                                            # no locks here
        yield
    finally:
        os.close(handle)                                    # which gives it back
