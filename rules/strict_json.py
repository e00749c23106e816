"""Strict JSON: UTF-8, no duplicate keys, and no characters that cannot be stored."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any, NoReturn

from rules import fields, refusals

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_VALUES = 500_000
_STRING_OR_SIGN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{,]', re.DOTALL)


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a strict JSON object. Raises ApiError 400."""
    value = parse(data)
    if not isinstance(value, dict):
        raise refusals.no_object(fields.kind_of(value))
    return value


def parse(data: bytes) -> Any:
    """Return a strict JSON value. Raises ApiError 400."""
    try:
        text = data.removeprefix(_BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        raise refusals.no_utf8() from error
    _refuse_many_values(text)
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            _refuse_unstorable(value)
    except (ValueError, RecursionError) as error:
        raise refusals.invalid_json() from error
    return value


def _refuse_many_values(text: str) -> None:
    """Refuse a body of very many small values: each takes far more memory than its bytes."""
    if sum(map(text.count, "[{,")) <= MAX_VALUES:
        return
    signs = (match for match in _STRING_OR_SIGN.finditer(text) if match[0][0] != '"')
    if sum(1 for _ in islice(signs, MAX_VALUES + 1)) > MAX_VALUES:
        raise refusals.too_many_values(MAX_VALUES)


def _refuse_unstorable(value: Any) -> None:
    """Refuse U+0000 (ApiError) and lone surrogates (ValueError). Only escapes can hold them."""
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                text.encode()
                if "\0" in text:
                    raise refusals.nul_in_body()
            case dict() as pairs:
                rest += [*pairs, *pairs.values()]
            case list() as items:
                rest += items


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
