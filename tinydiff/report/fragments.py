"""The pieces that the report's page is put together from: escaped text, embedded pictures, shapes on their way.

Read first: `page.py`.
"""
import base64
from html import escape as escape_markup
from pathlib import Path

from PIL import Image

from tinydiff.text import one_line

TYPES = {".png": "image/png", ".gif": "image/gif"}


def escape(text) -> str:
    """Text from outside for the page: nothing in it is markup, unseen or impossible to encode."""
    return escape_markup(one_line(text))


def data_uri(path) -> str:
    """A picture file as a data: address, so that the page carries it within itself."""
    path = Path(path)
    return f"data:{TYPES[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def figure(path, caption, alt, pixels=False) -> str:
    """A picture with its caption; without the file, a sentence. pixels: it shows small pictures enlarged, whose pixels stay sharp."""
    path = Path(path)
    size = _size(path)
    if size is None:
        return _missing(path)
    width, height = size
    return (f'<figure><img src="{data_uri(path)}" width="{width}" height="{height}" alt="{escape(alt)}"{" class=pixels" if pixels else ""}>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def strip_figure(path, caption, alt) -> str:
    """A strip of pictures that a narrow screen shows in two halves, one below the other."""
    path = Path(path)
    size = _size(path)
    if size is None:
        return _missing(path)
    width, height = size
    return (f'<figure><div class="strip pixels" role="img" aria-label="{escape(alt)}" '
            f'style="max-width:{width}px;--half:{width / 2:g}/{height};--picture:url({data_uri(path)})"><i></i><i></i></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>")


def flow(stations) -> str:
    """Shapes in the order in which they are passed through: (shape, words) each."""
    items = "".join(f"<li><span>({', '.join(map(str, shape))})<small>{escape(words)}</small></span></li>" for shape, words in stations)
    return f'<ol class="flow">{items}</ol>'


def settings_table(config) -> str:
    """The groups of a config.json, one setting a row."""
    rows = "".join(f"<tr><th>{escape(group)}.{escape(name)}</th><td>{escape(str(value))}</td></tr>"
                   for group, settings in config.items() for name, value in settings.items())
    return f'<table class="settings">{rows}</table>'


def _size(path):
    """(width, height) of a picture; None where there is none, or one that a run which was killed has not finished."""
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:
        return None


def _missing(path):
    return f'<p class="missing">{escape(path.name)} is not there yet: it is drawn when the run gets to it.</p>'
