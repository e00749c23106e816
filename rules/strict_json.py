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
MAX_VALUES = 150_000
_LARGE_BYTES = 1 << 20
_LEADS = range(0xF0, 0xF5)
_FOUR_BYTES = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")
# Possessive: else the pattern keeps a place to come back to for each character of a string.
_STRING_OR_SIGN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|([\[{,])', re.DOTALL)


def parse_object(data: bytes, is_bounded: bool = True) -> dict[str, Any]:
    """Return a strict JSON object, of at most MAX_VALUES if it is bounded. Raises ApiError 400."""
    value = parse(data, is_bounded)
    if not isinstance(value, dict):
        raise refusals.no_object(fields.kind_of(value))
    return value


def parse(data: bytes, is_bounded: bool = True) -> Any:
    """Return a strict JSON value, of at most MAX_VALUES if it is bounded. Raises ApiError 400."""
    try:
        text = _text_of(data.removeprefix(_BYTE_ORDER_MARK))
    except UnicodeDecodeError as error:
        raise refusals.no_utf8() from error
    if is_bounded and most_values(data) > MAX_VALUES:
        _refuse_many_values(text)
    try:
        value = _DECODER.decode(text)
        if "\\u" in text:
            _refuse_unstorable(value)
    except (ValueError, RecursionError) as error:
        raise refusals.invalid_json() from error
    return value


def most_values(data: bytes) -> int:
    """Return a number that JSON, or a piece of it, has no more values than."""
    return sum(map(data.count, (b"[", b"{", b",")))


def _text_of(data: bytes) -> str:
    """Return the text of JSON in UTF-8. Raises UnicodeDecodeError.

    One character of four bytes gives all others of a text as many: in a large one with few of them
    they become escapes.
    """
    if len(data) > _LARGE_BYTES and 0 < sum(map(data.count, _LEADS)) <= len(data) // 16:
        data = _FOUR_BYTES.sub(_escaped, data)
    return data.decode()


def _escaped(character: re.Match[bytes]) -> bytes:
    return json.dumps(character[0].decode())[1:-1].encode()


def _refuse_many_values(text: str) -> None:
    """Refuse a body of very many small values: each takes far more memory than its bytes."""
    signs = (match for match in _STRING_OR_SIGN.finditer(text) if match.lastindex)
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
