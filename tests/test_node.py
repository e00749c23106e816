"""The official Node SDK, unchanged, against a live server (the tests are in tests/node)."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Server

FOLDER = Path(__file__).parent / "node"
NEEDED_NODE = 22


@pytest.fixture(scope="module")
def node() -> str:
    """The path of a Node that the SDK supports; the SDK is installed beside the tests."""
    if shutil.which("npm") is None:
        _give_up("npm is missing: install Node.js with npm to test the Node SDK.")
    own = _version("node") < NEEDED_NODE
    path = str(FOLDER / "node_modules" / ".bin" / "node") if own else "node"
    lock, installed = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".package-lock.json"
    if (
        not installed.exists()
        or installed.stat().st_mtime < lock.stat().st_mtime
        or _version(path) < NEEDED_NODE
    ):
        omitted = [] if own else ["--omit=optional"]
        install = _run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", *omitted)
        if install.returncode or _version(path) < NEEDED_NODE:
            _give_up(f"The Node SDK cannot be installed:\n{install.stderr}")
    return path


@pytest.mark.timeout(400)
def test_node_sdk_works_unchanged(node: str, server: Server) -> None:
    environment = os.environ | {"THREADS_BASE_URL": server.base_url}
    result = _run(node, "--test", "--test-reporter=spec", env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^ℹ tests [1-9]", result.stdout, re.M)
    assert re.search(r"^ℹ skipped 0$", result.stdout, re.M)


def _run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=FOLDER, capture_output=True, encoding="utf-8", **options)


def _version(node: str) -> int:
    """Return the major version of a Node, 0 where there is none."""
    if shutil.which(node) is None:
        return 0
    return int(_run(node, "--version").stdout.removeprefix("v").partition(".")[0])


def _give_up(reason: str) -> None:
    """Skip, but on a CI machine fail: what is skipped there is never seen."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
