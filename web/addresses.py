"""The addresses of the API: each answers below several prefixes."""

import re

PREFIXES = {"api": "", "v1": "/v1", "openai": "/openai", "openai_v1": "/openai/v1"}
"""The prefixes by the names of their blueprints. Those of Azure's clients begin with /openai."""

BELOW = {"assistants": "/assistants", "models": "/models"}
BELOW |= dict.fromkeys(("threads", "messages", "runs"), "/threads")
"""Where each blueprint of the API answers, behind a prefix."""

_ANY_PREFIX = "|".join(sorted(PREFIXES.values(), reverse=True))  # the longest first
_PREFIX = re.compile(f"({_ANY_PREFIX})(?=/)")
OWN = rf"({_ANY_PREFIX})({'|'.join({*BELOW.values()})})(/|\Z)"
"""The pattern with which every address begins that is served as one of the API."""
_HOSTED = (
    *("audio", "batches", "chat", "completions", "containers", "conversations"),
    *("deployments", "embeddings", "evals", "files", "fine_tuning", "images"),
    *("moderations", "organization", "realtime", "responses", "uploads", "vector_stores", "videos"),
)
_NOT_SERVED = re.compile(f"/({'|'.join(_HOSTED)})(/.*)?", re.DOTALL)

_BESIDE = re.compile(
    "/((_mock|admin|docs|static)(/.*)?|openapi.json|healthz|readyz|metrics|favicon.ico)?", re.DOTALL
)


def is_of_api(path: str) -> bool:
    """Return whether a path is of the API or unknown: not of a page, of health or of a control."""
    return not _BESIDE.fullmatch(path)


def without_prefix(path: str) -> str:
    """Return a path without the prefix of the API."""
    return _PREFIX.sub("", path, count=1)


def is_hosted(path: str) -> bool:
    """Return whether the hosted API has an address like this path."""
    return bool(_NOT_SERVED.fullmatch(without_prefix(path)))


def one_form(path: str) -> str:
    """Return a path of the API with single slashes and without the last one; others as they are."""
    if "//" not in path and not path.endswith("/"):
        return path
    single = re.sub("/{2,}", "/", path).rstrip("/")
    return single if re.match(OWN, single) else path
