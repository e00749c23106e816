"""The words of a search are found in a text as the search finds them, and marked."""

import pytest

from display.marks import marked, parts_of, places


def words(text: str, q: str) -> list[str]:
    return [text[start:end] for start, end in places(text, q)]


@pytest.mark.parametrize(
    ("text", "q", "found"),
    [
        ("An invoice, an INVOICE and invoices", "invoice", ["invoice", "INVOICE"]),
        ("An invoice, an INVOICE and invoices", "invoic*", ["invoice", "INVOICE", "invoices"]),
        ("foo and food", "foo-*", ["foo", "food"]),
        ("foo and food", '"foo*"', ["foo"]),
        ("Été, ete\u0301, E\u0301TE\u0301", "ete", ["Été", "ete\u0301", "E\u0301TE\u0301"]),
        ("ＡＢＣ abc", "ABC", ["ＡＢＣ", "abc"]),
        ("ｶﾞｲﾄﾞ ガイド カ\u3099イト\u3099 カイト", "ガイド", ["ｶﾞｲﾄﾞ", "ガイド", "カ\u3099イト\u3099"]),
        ("ΣΟΦΟΣ σοφος", "σοφος", ["ΣΟΦΟΣ", "σοφος"]),
        ("tram castle, castle tram", '"tram castle"', ["tram castle"]),
        ("tram castle, castle tram", "castle tram", ["tram", "castle", "castle", "tram"]),
        ("a snake_case name, case", "snake_case", ["snake_case"]),
        ("it's its", "it's", ["it's"]),
        ("東京 東京都", "東京", ["東京"]),
        ("Thanks🙂thanks", "thanks", ["Thanks", "thanks"]),
        ("castles", "castle", []),
        ("anything", '"" * ?', []),
        ("", "anything", []),
    ],
)
def test_words_are_found_as_the_search_finds_them(text: str, q: str, found: list[str]) -> None:
    assert words(text, q) == found


def test_a_text_that_begins_many_phrases_everywhere_is_looked_through_in_part() -> None:
    phrases = " ".join(f'"a b{number}"' for number in range(20))
    assert words("a b0 " + "a " * 5_000 + "a b1", phrases) == ["a b0"]
    assert len(words("a " * 5_000, "a")) == 5_000


def test_what_is_marked_stays_text() -> None:
    text = "<b>bold</b> & bold"
    html = "&lt;b&gt;<mark>bold</mark>&lt;/b&gt; &amp; bold"
    assert marked(text, places(text, "bold"), 1) == html


def test_places_are_cut_where_the_text_is() -> None:
    assert parts_of([(2, 6), (7, 8)], [3, 0, 2, 4]) == [[(2, 3)], [], [(0, 2)], [(0, 1), (2, 3)]]
