"""Names from outside in one printed line."""
from hypothesis import given, strategies as st

from tinydiff.text import one_line


def test_what_does_not_show_is_escaped():
    assert one_line("cat\n2. done\x1b[2J\r\x07.png") == "cat\\n2. done\\x1b[2J\\r\\x07.png"
    assert one_line("cat\u202egpj.exe\u2028\x85.png") == "cat\\u202egpj.exe\\u2028\\x85.png"
    assert one_line("no utf-8: \udcff.png") == "no utf-8: \\udcff.png"
    assert one_line("Mäusejäger 猫 🐈 a\\b.png") == "Mäusejäger 猫 🐈 a\\b.png"


@given(st.text(st.characters(exclude_categories=())))      # with lone surrogates
def test_any_text_becomes_one_line_that_can_be_written(text):
    line = one_line(text)
    assert len((line + "x").splitlines()) == 1 and line.isprintable()
    assert line.encode("utf-8").decode("utf-8") == line
    assert one_line(line) == line
