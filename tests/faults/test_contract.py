"""The API document against the server, longer than test_openapi.py, open and with keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import schemathesis
from harness import WHOLE

FORM = ("--phases=examples,coverage,fuzzing,stateful", "--max-examples=40")

pytestmark = [
    pytest.mark.skipif(not WHOLE, reason="tests/routes/test_openapi.py is the short form"),
    pytest.mark.timeout(600),
]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_open_server_does_what_the_document_says(
    serve: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    with serve(MOCK="on") as server:
        schemathesis(server, tmp_path, *FORM, f"--seed={seed}")


def test_the_server_with_keys_does_what_the_document_says(
    serve: Callable[..., Any], tmp_path: Path, database_url: str, new_key: Callable[..., str]
) -> None:
    key = new_key("default")
    with serve(DATABASE_URL=database_url, MOCK="on", WORKERS=1) as server:
        schemathesis(server, tmp_path, *FORM, "--seed=3", "-H", f"Authorization: Bearer {key}")
