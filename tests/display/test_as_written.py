"""Markdown as it is shown: what is code, a path or mathematics stays as it was written."""

import re
from html import unescape

import pytest

from display.budget import Budget
from display.markdown import markdown, plain

AS_WRITTEN = [
    "2*3*4",
    "2**3**4",
    "3*x + 4*y",
    "(a)*(b)*(c) and (a)*b*(c)",
    "f(*args, **kwargs)",
    r"C:\new\_dir\*.txt",
    r"C:\new\_dir\*",
    r"\\server\share\*.*",
    "*.py, *.md and src/*/a/*.c",
    "(*.txt|*.md)",
    "src/**/*.py",
    "__init__.py",
    "__init__ and __call__(self)",
    "snake_case_name and _private_name",
    r"\(x\) and \[x\]",
    r"\(x_1\) and \[\frac{a}{b}\]",
    r"\begin{x} a \\ b \, c \; d \end{x}",
    r"^\d+\.\w{2}$",
    "&nbsp; &amp; &copy;",
    "[INFO]: ready",
    "a < b > c",
    "1 * 2 * 3",
    "un*frigging*believable",
]
RENDERED = {
    "*word*": "<em>word</em>",
    "_word_": "<em>word</em>",
    "**bold text**": "<strong>bold text</strong>",
    "__bold text__": "<strong>bold text</strong>",
    "***both***": "<em><strong>both</strong></em>",
    '(**"quoted"**), *a*-*b*': '(<strong>"quoted"</strong>), <em>a</em>-<em>b</em>',
    "**API**s": "<strong>API</strong>s",
    "**Note:** x": "<strong>Note:</strong> x",
    "这是**重要**的，*API*": "这是<strong>重要</strong>的，<em>API</em>",
    r"\*so\*": "*so*",
    r"\*\*so\*\*.": "**so**.",
    r"\# no heading": "# no heading",
    r"a \_b\_ c": "a _b_ c",
    "`2*3*4`": "<code>2*3*4</code>",
    "[a_b](https://x.org/a_b_c)": "a_b</a>",
    "~~gone~~": "<s>gone</s>",
    "- one\n- two": "<li>one</li>",
    "```python\n__x__ *y*\n```": "<pre><code>__x__ *y*\n</code></pre>",
    "|a|\n|-|\n|x\\|y|": "<td>x|y</td>",
    "a\\\nb": "a\\<br>\nb",
}


def shown(text: str) -> str:
    """Return what a person reads of a text in Markdown."""
    return unescape(re.sub("<[^>]+>", "", markdown(text, Budget()))).strip()


@pytest.mark.parametrize("text", AS_WRITTEN)
def test_what_is_no_markdown_stays_as_written(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(("text", "html"), RENDERED.items())
def test_what_is_markdown_is_rendered(text: str, html: str) -> None:
    assert html in str(markdown(text, Budget())).replace("&quot;", '"')


def test_a_plain_text_keeps_every_sign() -> None:
    text = "  a\t b\n\n*c* <b>"
    assert plain(text, Budget()) == '<p class="plain">  a\t b\n\n*c* &lt;b&gt;</p>'


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (
            "An **in**voice & <b>",
            "An <strong><mark>in</mark></strong><mark>voice</mark> &amp; &lt;",
        ),
        ("the `invoice`", "<code><mark>invoice</mark></code>"),
        ("```\nan invoice\n```", "<pre><code>an <mark>invoice</mark>\n</code></pre>"),
        ("[invoice](https://x.org/invoice)", '">' + "<mark>invoice</mark></a>"),
        ("|invoice|\n|-|\n|b|", "<th><mark>invoice</mark></th>"),
        ("# Invoice", "<strong><mark>Invoice</mark></strong>"),
        ("in\nvoice", "in<br>\nvoice"),
        ("<b>invoice</b>", "&lt;b&gt;<mark>invoice</mark>&lt;/b&gt;"),
        ("invoice" * 2_000, "invoiceinvoice"),
    ],
)
def test_words_are_marked_without_breaking_the_html(text: str, html: str) -> None:
    assert html in markdown(text, Budget(), "invoice")


def test_a_phrase_is_marked_across_emphasis() -> None:
    html = markdown("a **tram** castle", Budget(), '"tram castle"')
    assert "<strong><mark>tram</mark></strong><mark> castle</mark>" in html


def test_a_page_has_a_bounded_number_of_marks() -> None:
    budget = Budget()
    texts = [f"{number} " + "a " * 4_000 for number in range(20)]
    pages = [render(text, budget, "a") for text in texts for render in (markdown, plain)]
    assert sum(page.count("<mark>") for page in pages) <= 5_500
    assert "<mark>" not in pages[-1]
