"""One file from the web: with progress, going on where it was cut off, and never taken for good before its checksum is right.

Read first: `decoding.py`.
"""
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tinydiff.data.decoding import reason

TIMEOUT = 30        # seconds without a byte after which a connection counts as cut
TRIES = 5           # connections, each of which goes on where the one before was cut
MAX_BYTES = 2**31   # a server could send for ever
PIECE = 2**18


class NotWritten(OSError):
    """The trouble is on this side, not in the web."""


def download(url: str, path: Path, md5: str, progress: Callable[[str], None] | None = None) -> None:
    """Brings the file at url to `path`, unless it is already there and whole. md5: its MD5 in hexadecimal.

    What has arrived stays in a .part file beside it when the connection is cut, and the next call goes on from there. progress(words) is
    called with how far it is. Raises OSError, with what to do, where it could not be had or is another file than expected.
    """
    if path.exists() and _md5(path) == md5:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    resumed = _length(part) > 0
    _fetch_all(url, path, part, progress)
    if _md5(part) != md5 and resumed:  # what was there before may be of another file
        part.unlink()
        _fetch_all(url, path, part, progress)
    if _md5(part) != md5:
        part.unlink()
        raise OSError(f"{url} sent another file than it should (its MD5 is not {md5}), which was thrown away. Try again later, or put the right "
                      f"file at {path}")
    os.replace(part, path)


def _fetch_all(url, path, part, progress):
    """Fetches what is missing in `part`, in several connections if need be."""
    elsewhere = f"The file may also be fetched in another way and put at {path}"
    for _ in range(TRIES):
        before = _length(part)
        try:
            return _fetch(url, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # the part is as long as the whole file or longer: its checksum will tell
                return
            raise OSError(f"{url} can't be had: the server answers {error.code} {str(error.reason)[:100]}. {elsewhere}") from error
        except NotWritten:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:      # ValueError: a redirection to what is no address
            cut = error
        if _length(part) <= before:
            break
    inner = getattr(cut, "reason", cut)
    kept = f" {_length(part) / 1e6:.1f} MB have arrived and are kept: run it again to go on." if _length(part) else ""
    raise OSError(f"{url} can't be had ({reason(inner) if isinstance(inner, Exception) else inner}).{kept} Are you online? {elsewhere}") from cut


def _fetch(url, part, progress):
    """Fetches what is missing in `part` in one connection. ConnectionError where it is cut."""
    done = _length(part)
    request = urllib.request.Request(url, headers={"User-Agent": "tinydiff"} | ({"Range": f"bytes={done}-"} if done else {}))
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if not (response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")):
            done = 0  # the server sends all of it again
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        while piece := response.read(PIECE):
            _append(part, piece, done)
            done += len(piece)
            if progress:
                progress(f"{part.stem}: {done / 1e6:.1f}{f' of {total / 1e6:.1f}' if total else ''} MB")
    if total is not None and done < total:
        raise ConnectionError("the connection was cut")
    if done == 0:
        raise ConnectionError("an empty file was sent")


def _append(part, piece, done):
    """Writes what follows the first `done` bytes."""
    try:
        with open(part, "ab" if done else "wb") as file:
            file.write(piece)
        if _length(part) != done + len(piece):
            raise NotWritten(f"{part} is being written by another process; wait for it")
        if _length(part) > MAX_BYTES:
            raise NotWritten(f"{part} has more than {MAX_BYTES >> 30} GiB, and the server goes on sending")
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(f"{part} can't be written ({reason(error)}); what has arrived is kept: run it again to go on") from error


def _length(path):
    return path.stat().st_size if path.exists() else 0


def _md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
