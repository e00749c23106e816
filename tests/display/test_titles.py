"""The title of a conversation: words, without the marks of Markdown, and with all that is code."""

import pytest

from display.titles import headline


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\n  How do I   reset it?\nSecond line", "How do I reset it?"),
        ("## Plan **for** _the whole_ day", "Plan for the whole day"),
        ("> - [ ] ***Buy*** ~~milk~~ *bread*", "Buy milk bread"),
        ("[The guide](https://x.org/a_b) says **`a*b`**", "The guide says a*b"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("---\n\nAfter a line", "After a line"),
        ("2*3*4 and C:\\new\\_dir\\*.txt, *.md", "2*3*4 and C:\\new\\_dir\\*.txt, *.md"),
        ("__init__.py, `__init__`, snake_case_name", "__init__.py, __init__, snake_case_name"),
        ("1. one * two * three", "1. one * two * three"),
        ("***", "***"),
        ("🙂", "🙂"),
        ("", ""),
        ("x" * 500, "x" * 119 + "…"),
    ],
)
def test_a_title_is_the_first_line_with_words(text: str, shown: str) -> None:
    assert headline(text) == shown


def test_blanks_are_read_once() -> None:
    for number in range(1_000):
        assert headline(f"!\n{' ' * 3_900}{number}") == str(number)
