"""Times in words."""

from datetime import UTC, datetime
from functools import lru_cache

from markupsafe import Markup

from rules.ids_and_clock import unix_now

_DAY_SECONDS, _SOON = 86_400, -60


def ago(second: int) -> Markup:
    """Return a <time> that reads `3 h ago` and has the exact time in its title.

    It has its age, too, while that changes soon: a script lets it grow.
    """
    exact, day, _ = _moment(second)
    age = unix_now() - second
    distance = _distance(age) or day
    grows = f' data-age="{age}"' if _SOON < age < _DAY_SECONDS else ""
    html = f'<time datetime="{exact}Z" title="{exact} UTC"{grows}>{distance}</time>'
    return Markup(html)  # noqa: S704 (made of numbers)


def clock(second: int) -> Markup:
    """Return a <time> that reads `14:03:05 UTC`."""
    exact, _, _ = _moment(second)
    html = f'<time class="clock" datetime="{exact}Z">{exact[11:]} UTC</time>'
    return Markup(html)  # noqa: S704 (made of numbers)


def weekday(second: int) -> Markup:
    """Return a <time> that reads `Monday 23 November 2026`."""
    exact, _, long = _moment(second)
    return Markup(f'<time datetime="{exact[:10]}">{long}</time>')  # noqa: S704 (made of numbers)


@lru_cache(maxsize=1024)
def _moment(second: int) -> tuple[str, str, str]:
    """Return a time to the second, its day, and its day with its name."""
    moment = datetime.fromtimestamp(second, UTC)
    return moment.isoformat(" ")[:19], f"{moment:%-d %b %Y}", f"{moment:%A %-d %B %Y}"


def _distance(seconds: int) -> str:
    """Return a distance up to 30 days in the past, such as `3 h ago`, else an empty text."""
    if not _SOON < seconds < 30 * _DAY_SECONDS:
        return ""
    for size, unit in ((_DAY_SECONDS, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "just now"
