"""Strict JSON: UTF-8, no duplicate keys, and no characters that cannot be stored."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

from rules import fields, refusals

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a strict JSON object. Raises ApiError 400."""
    try:
        text = data.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise refusals.no_utf8() from error
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            _refuse_unstorable(value)
    except (ValueError, RecursionError) as error:
        raise refusals.invalid_json() from error
    if not isinstance(value, dict):
        raise refusals.no_object(fields.kind_of(value))
    return value


def _refuse_unstorable(value: Any) -> None:
    """Refuse U+0000 (ApiError) and lone surrogates (ValueError). Only escapes can hold them."""
    text = json.dumps(value, ensure_ascii=False)
    text.encode()
    if _NUL.search(text):
        raise refusals.nul_in_body()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise refusals.duplicate_key(next(key for key, count in counts.items() if count > 1))
    return value


def _bounded(convert: Callable[[str], Any], fits: Callable[[Any], bool]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = convert(text)
        return value if fits(value) else _refuse_constant(text)

    return number


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_bounded(int, lambda value: -(2**63) <= value < 2**63),
    parse_float=_bounded(float, math.isfinite),
    parse_constant=_refuse_constant,
)
