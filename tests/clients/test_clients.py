"""Published clients, unmodified, against a live server: `make test-clients`.

Each folder is one set of packages that can be installed together, with its lock (the first lines
of requirements.txt say how to renew it) and its programs. A program finds the server in the
environment, and fails when an answer is not what it should be.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Server, give_up, npm_install, serving

from config import ROOT

SETS = Path(__file__).parent
ENVIRONMENTS = ROOT / ".clients"
THREADS = [
    "newest/azure_openai.py",
    "newest/litellm_azure.py",
    "newest/marvin_thread.py",
    "node/azure_assistants.js",
    "node/azure_openai.js",
]
RUNS = [
    "newest/autogen_agent.py",
    "newest/langchain_runnable.py",
    "newest/marvin_assistant.py",
    "newest/semantic_kernel_agent.py",
    "node/ai_assistant_response.js",
    "older/agency_swarm_agency.py",
    "older/llama_index_agent.py",
]
CALL = {"name": "get_weather", "arguments": {"city": "Rome"}}
WEATHER = {
    "match": "*weather*",
    "replies": [{"tool_calls": [CALL]}, {"text": "It is 20 degrees."}],
}
pytestmark = pytest.mark.timeout(400)  # the first run installs


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One live server with the mock controls, shared by all programs."""
    with serving(tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture
def weather(server: Server) -> None:
    """A script for questions about the weather; all other answers repeat the question."""
    assert server.call("PUT", "/_mock/replies", {"rules": [WEATHER]}).status == 200


def environment(folder: Path) -> Path:
    """Return the environment of a Python set, installed once for all test processes."""
    with (folder / "requirements.txt").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        digest = hashlib.sha256(sys.version.encode() + lock.read()).hexdigest()
        path = ENVIRONMENTS / f"{folder.name}-{digest[:12]}"
        if not (path / ".installed").exists():
            for old in ENVIRONMENTS.glob(f"{folder.name}-*"):
                shutil.rmtree(old)
            install(path, lock.name)
            (path / ".installed").touch()
    return path


def install(path: Path, lock: str) -> None:
    python = str(path / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    installer = ["uv", "pip", "install", "--python", python] if shutil.which("uv") else pip
    for command in ([sys.executable, "-m", "venv", str(path)], [*installer, "-q", "-r", lock]):
        step = subprocess.run(command, capture_output=True, text=True)
        if step.returncode:
            give_up(f"{lock} cannot be installed:\n{step.stderr}")


def interpreter(folder: Path, request: pytest.FixtureRequest) -> str:
    if (folder / "package.json").exists():
        npm_install(folder, "ci")
        return str(request.getfixturevalue("node"))
    return str(environment(folder) / "bin" / "python")


def run(program: Path, server: Server, home: Path, request: pytest.FixtureRequest) -> None:
    """Run a program in a home of its own: some packages write there, or where they are."""
    places = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONDONTWRITEBYTECODE": "",  # what a package compiles stays in its environment
        "THREADS_URL": server.root_url,
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "any",
    }
    result = subprocess.run(
        [interpreter(program.parent, request), program],
        cwd=home,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("program", THREADS)
def test_threads_and_messages(
    program: str, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run(SETS / program, server, tmp_path, request)


@pytest.mark.parametrize("program", RUNS)
@pytest.mark.usefixtures("weather")
def test_a_text_answer_and_a_function_tool(
    program: str, server: Server, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    run(SETS / program, server, tmp_path, request)


def test_every_program_is_run() -> None:
    programs = [*SETS.glob("*/*.py"), *SETS.glob("*/*.js")]
    assert sorted(str(path.relative_to(SETS)) for path in programs) == sorted(THREADS + RUNS)
