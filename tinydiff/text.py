"""Text from outside, such as the name of a file, made fit to be printed.

Read first: nothing.
"""


def one_line(text: str) -> str:
    """The text with every character that does not show as itself written as an escape: a line break as \\n, ESC as \\x1b.

    Escaped are controls, line and paragraph separators, directions of writing (a name that ends in "gpj.exe" can be made to look as if it
    ended in "exe.jpg") and the lone surrogates that stand for bytes which are no UTF-8. So a name can't begin a line of its own, move a
    terminal's cursor, hide, or fail to be encoded. A text that has been through here comes through unchanged.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
