"""Times in words."""

from datetime import UTC, datetime
from functools import lru_cache

from markupsafe import Markup

from rules.ids_and_clock import unix_now

_DAY_SECONDS = 86_400


def ago(second: int) -> Markup:
    """Return a <time> that reads `3 h ago` and has the exact time in its title."""
    exact, day = _moment(second)
    distance = _distance(unix_now() - second) or day
    html = f'<time datetime="{exact}Z" title="{exact} UTC">{distance}</time>'
    return Markup(html)  # noqa: S704 (made of numbers)


@lru_cache(maxsize=1024)
def _moment(second: int) -> tuple[str, str]:
    """Return a time to the second, and its day."""
    moment = datetime.fromtimestamp(second, UTC)
    return moment.isoformat(" ")[:19], f"{moment:%-d %b %Y}"


def _distance(seconds: int) -> str:
    """Return a distance up to 30 days in the past, such as `3 h ago`, else an empty text."""
    if not -60 < seconds < 30 * _DAY_SECONDS:
        return ""
    for size, unit in ((_DAY_SECONDS, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
