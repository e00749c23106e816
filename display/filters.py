"""The filters of the templates."""

from collections.abc import Callable
from typing import Any

from display.markdown import markdown, plain
from display.texts import faults_of, is_long, pretty, quantity, short, short_id, tools_in_words
from display.times import ago, clock, weekday
from display.titles import headline

FILTERS: tuple[Callable[..., Any], ...] = (
    ago,
    clock,
    faults_of,
    headline,
    is_long,
    markdown,
    plain,
    pretty,
    quantity,
    short,
    short_id,
    tools_in_words,
    weekday,
)
