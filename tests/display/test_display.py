"""What a page shows of its texts: the budget of its Markdown, its characters and its parts."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

import database
import models
from config import ROOT
from display import markdown as display
from display.budget import MAX_MARKDOWN_WORK, Budget

ADVERSARIAL = {
    "a wide table with short rows": "|a" * 60 + "|\n" + "|-" * 60 + "|\n" + "a\n" * 5_000,
    "a narrow table with short rows": "|a|b|c|\n|-|-|-|\n" + "a\n" * 5_000,
    "opening brackets": "[" * 10_000,
    "images and links": "![[a](" * 2_000,
    "emphasis among brackets": "**a_[~~" * 2_000,
    "quotes in lists": "> - " * 3_000,
    "link definitions": "[a]: b\n" * 2_000,
    "headings": "# a\n" * 2_500,
    "autolinks": "<http://a.b>" * 900,
    "code spans": "`a``b```c" * 1_200,
}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One entry for each step that markdown-it takes from now on."""
    taken: list[None] = []
    spend = display._spend

    def counted(*arguments: Any) -> bool:
        taken.append(None)
        return spend(*arguments)

    monkeypatch.setattr(display, "_spend", counted)
    monkeypatch.setattr(display, "_MARKDOWN", display._markdown_renderer())
    display._render.cache_clear()
    return taken


@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_a_text_takes_bounded_steps_and_html(steps: list[None], text: str) -> None:
    budget = Budget()
    html = display.markdown(text[: display.MAX_MARKDOWN_CHARACTERS], budget)
    assert len(steps) <= MAX_MARKDOWN_WORK / 2 + 1
    assert len(html) < 120_000


def test_a_page_of_adversarial_texts_stops_parsing(steps: list[None]) -> None:
    budget = Budget()
    for number in range(50):
        html = display.markdown(f"{number} " + "[" * 9_000, budget)
    assert html.startswith('<p class="plain">49 [[')
    assert len(steps) < 6 * MAX_MARKDOWN_WORK / 2


def test_a_line_costs_its_length_at_each_level_of_a_list() -> None:
    budget = Budget()
    for number in range(10):
        display.markdown("- " * 4_950 + str(number), budget)
    assert budget.work <= 0


PERFORMANCE = (ROOT / "docs/performance.md").read_text()
ORDINARY = {
    "README": (ROOT / "README.md").read_text(),
    "architecture": (ROOT / "docs/architecture.md").read_text(),
    "a long table": max(PERFORMANCE.split("\n## "), key=len),
}


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_markdown_is_far_from_its_budget(text: str) -> None:
    budget = Budget()
    before = budget.work
    shown = display.markdown(text[: display.MAX_MARKDOWN_CHARACTERS], budget)
    assert not shown.startswith('<p class="plain">')
    assert before - budget.work < MAX_MARKDOWN_WORK / 2


def test_a_page_of_tables_is_within_its_budget() -> None:
    text = PERFORMANCE[: display.MAX_MARKDOWN_CHARACTERS]
    assert not display.markdown(text, Budget()).startswith('<p class="plain">')


def test_whether_a_text_is_parsed_does_not_depend_on_what_was_shown_before() -> None:
    texts = [f"{number} **a** " + "[x](y) " * 400 for number in range(50)]

    def page() -> list[str]:
        budget = Budget()
        return [display.markdown(text, budget) for text in texts]

    first = page()
    assert {html[:3] for html in first} == {"<p>", "<p "}
    assert page() == first


def test_a_full_page_cuts_the_texts_that_follow() -> None:
    budget = Budget()
    pages = [display.markdown(str(number) + "x" * 250_000, budget) for number in range(10)]
    assert len(pages[0]) > 250_000
    assert len(pages[-1]) < 500
    assert "in the raw JSON" in pages[-1]


def store_content(app: Flask, content: list[Any]) -> None:
    change = sa.update(models.Message).values({"content": json.dumps(content)})
    with app.app_context():
        database.write(lambda connection: connection.change(change))


def test_a_page_shows_a_bounded_number_of_parts_and_annotations(
    app: Flask, client: FlaskClient
) -> None:
    messages = [{"role": "user", "content": "x"} for _ in range(50)]
    thread = client.post("/v1/threads", json={"messages": messages}).json["id"]
    path = {"type": "file_path", "text": "t" * 100, "file_path": {"file_id": "file-1"}}
    text = {"value": "x", "annotations": [path | {"start_index": 0, "end_index": 1}] * 5}
    store_content(app, [{"type": "text", "text": text}] * 60)
    page = client.get(f"/admin/threads/{thread}", buffered=True).text
    assert page.count("→ file-1") < 2_000
    assert page.count("more parts are in the") == 50
    assert len(page) < 1_000_000


@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_a_message_of_many_adversarial_parts_makes_a_small_page(
    client: FlaskClient, text: str
) -> None:
    parts = [{"type": "text", "text": f"{number} {text}"[:10_000]} for number in range(20)]
    body = {"messages": [{"role": "user", "content": parts}]}
    thread = client.post("/v1/threads", json=body).json["id"]
    assert len(client.get(f"/admin/threads/{thread}", buffered=True).data) < 1_500_000


def test_a_list_of_threads_with_the_largest_metadata_is_a_bounded_page(client: FlaskClient) -> None:
    metadata = {f"{number:02}" + "&" * 62: "'" * 512 for number in range(16)}
    for _ in range(50):
        messages = [{"role": "user", "content": "&" * 256_000}]
        client.post("/v1/threads", json={"metadata": metadata, "messages": messages})
    page = client.get("/admin/?limit=50", buffered=True)
    assert page.data.count(b"<tr") == 51
    assert len(page.data) < 2_000_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":[1,"é"]}', '{\n  "a": [\n    1,\n    "é"\n  ]\n}'),
        ("12345678901234567890123", "12345678901234567890123"),
        ('{"a":', '{"a":'),
        ('"\\ud800"', '"\\ud800"'),
        ("[" * 2_000 + "]" * 2_000, "[" * 2_000 + "]" * 2_000),
        ("NaN", "NaN"),
    ],
)
def test_json_is_shown_in_lines_and_other_texts_as_they_are(text: str, shown: str) -> None:
    assert Budget().cut(text) == shown


def test_a_page_that_is_full_cuts_texts_short() -> None:
    budget = Budget()
    lengths = [len(budget.cut("x" * 100_000)) for _ in range(20)]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-1]) == (20_000, 200)
