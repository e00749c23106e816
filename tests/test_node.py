"""The official Node SDK, unchanged, against a live server (the tests are in tests/node)."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import NODE_FOLDER, Server, serving


@pytest.mark.timeout(400)
def test_node_sdk_works_unchanged(node: str, server: Server, tmp_path: Path) -> None:
    with serving(tmp_path / "log") as mocked:  # one worker: its replies are scripted
        urls = {"THREADS_BASE_URL": server.base_url, "THREADS_RUNS_URL": mocked.base_url}
        result = subprocess.run(
            [node, "--test", "--test-reporter=spec"],
            cwd=NODE_FOLDER,
            env=os.environ | urls,
            capture_output=True,
            encoding="utf-8",
        )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^ℹ tests [1-9]", result.stdout, re.M)
    assert re.search(r"^ℹ skipped 0$", result.stdout, re.M)
