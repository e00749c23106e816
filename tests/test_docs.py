"""README and docs/ say what the program does: addresses, settings, commands, links, examples."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from conftest import NODE_FOLDER, Server, serving
from flask import Flask

import cli
import config
from web.addresses import without_prefix

README = (config.ROOT / "README.md").read_text()
PAGES = [config.ROOT / "README.md", *sorted((config.ROOT / "docs").glob("*.md"))]
HELLO = {"messages": [{"role": "user", "content": "Hello!"}]}
NOT_IN_TABLES = {"/", "/docs/{name}", "/static/{filename}"}


@pytest.fixture(scope="module")
def mocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A live server with the mock controls."""
    with serving(tmp_path_factory.mktemp("mocked") / "log") as server:
        yield server


def table(header: str) -> list[list[str]]:
    """Return the cells of all rows of the tables that begin with a header row."""
    rows: list[list[str]] = []
    for body in re.findall(rf"^{re.escape(header)}\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE):
        rows += [[cell.strip() for cell in row.strip("|").split("|")] for row in body.splitlines()]
    assert rows, header
    return rows


def is_of_the_page(path: str) -> bool:
    return path.startswith("/admin")


def test_the_endpoint_tables_are_the_routes(app: Flask) -> None:
    documented = {
        (method, path.strip("`"))
        for method, path, _ in table("| Method | Address | What it does |")
        if not is_of_the_page(path.strip("`"))
    }
    served = set()
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        if path in NOT_IN_TABLES or is_of_the_page(path):
            continue
        methods = rule.methods - {"HEAD", "OPTIONS"}
        served |= {(method, without_prefix(path)) for method in methods}
    assert documented == served


def test_the_settings_table_has_every_setting_and_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = table("| Variable | Default | Meaning |")
    documented = {name.strip("`"): default.strip("`") for name, default, _ in rows}
    for name in documented:
        monkeypatch.delenv(name, raising=False)
    defaults = {f"THREADS_{name}": as_text(value) for name, value in config.from_env().items()}
    assert documented == defaults | {"THREADS_WORKERS": "1`; `2` with keys"}


def as_text(value: Any) -> str:
    """Write a default as the table does."""
    if isinstance(value, bool):
        return "on" if value else "off"
    own_folder = f"sqlite:///{config.ROOT}/"
    return "" if value in (None, [], {}) else str(value).removeprefix(own_folder)


def test_the_commands_table_has_every_command(tmp_path: Path) -> None:
    documented = [command.strip("`") for command, _ in table("| Command | What it does |")]
    app = cli.create_app({"DATABASE_URL": f"sqlite:///{tmp_path / 'never-opened.db'}"})
    commands = []
    for name, command in app.cli.commands.items():
        if isinstance(command, click.Group) and name != "db":
            commands += [f"flask {name} {each}" for each in command.commands]
        else:
            commands.append(f"flask {name}")
    assert sorted(documented) == sorted(commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_python_examples_run_one_after_another(mocked: Server) -> None:
    examples = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    assert "http://127.0.0.1:8000/v1" in examples
    examples = examples.replace("http://127.0.0.1:8000/v1", mocked.base_url)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", examples]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *chat, last_line = done.stdout.splitlines()
    assert chat == ["The run is completed", "user Hello!", "assistant Hello!"]
    assert re.fullmatch(r"thread_\w{24} \{'user': 'u3'\}", last_line)
    assert done.stderr == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_mock_controls_take_the_rules_that_are_shown(page: Path, mocked: Server) -> None:
    command = r"curl (?:-X (\w+) )?localhost:8000(/_mock/\w+) [^\n]*-d '([^']*)'"
    for method, path, body in re.findall(command, page.read_text()):
        assert mocked.call(method or "POST", path, json.loads(body)).status == 200
        assert mocked.call("DELETE", path).status == 200


def test_the_node_example_runs(server: Server, node: str) -> None:
    thread = json.loads(server.call("POST", "/v1/threads", HELLO).body)["id"]
    example = re.search(r"```js\n(.*?)```", README, re.DOTALL)[1]
    client = f'new OpenAI({{ baseURL: "{server.base_url}", apiKey: "any" }})'
    example = f'import OpenAI from "openai";\nconst client = {client};\n{example}'
    command = [node, "--input-type=module", "--eval", example]
    done = subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, check=True)
    assert thread in done.stdout.split()


def test_the_fixture_that_is_shown_is_the_one_in_examples() -> None:
    example = re.search(r"```json\n(.*?)```", README, re.DOTALL)[1]
    assert example == (config.ROOT / "examples" / "thread_abc123.jsonl").read_text()
