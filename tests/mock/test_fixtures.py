"""The fixtures in examples/ that other projects take over: sample suites that use them."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen
from xml.etree import ElementTree

import pytest
from conftest import npm_install

from config import ROOT

pytestmark = pytest.mark.sqlite_only("the servers of the fixtures are in memory")

VITEST_FOLDER = Path(__file__).parents[1] / "vitest"
SHUFFLE = """
import os, random

def pytest_collection_modifyitems(items):
    random.Random(os.environ["SHUFFLE_SEED"]).shuffle(items)
"""
SUITE = """
import os
from pathlib import Path

import openai
import pytest
from openai import OpenAI

HELLO = {"role": "user", "content": "hello"}


def control(client, method, path, **options):
    root = client.with_options(base_url=str(client.base_url).replace("/v1/", "/_mock"))
    return getattr(root, method)(path, cast_to=object, **options)


def listed(client):
    return [thread["id"] for thread in client.get("/threads", cast_to=object)["data"]]


def answer(client, text):
    message = {"role": "user", "content": text}
    assistant = client.beta.assistants.create(model="gpt-4o")
    run = client.beta.threads.create_and_run_poll(
        assistant_id=assistant.id, thread={"messages": [message]}
    )
    return client.beta.threads.messages.list(run.thread_id).data[0].content[0].text.value


@pytest.fixture(autouse=True)
def untouched(threads_client):
    note = Path(__file__).parent / "servers" / str(os.getpid())
    note.write_text(str(threads_client.base_url))
    assert listed(threads_client) == []
    assert len(control(threads_client, "get", "/requests")["data"]) == 1


@pytest.mark.parametrize("count", range(5))
def test_creates(threads_client, count):
    made = [threads_client.beta.threads.create().id for _ in range(count)]
    assert sorted(listed(threads_client)) == sorted(made)


@pytest.mark.parametrize("count", range(5))
def test_own_client(count):
    with OpenAI() as client:
        thread = client.beta.threads.create(messages=[HELLO] * count)
        assert len(client.beta.threads.messages.list(thread.id).data) == count


@pytest.mark.parametrize("status", range(500, 505))
def test_leaves_faults_behind(threads_client, status):
    rules = [{"path": "/v1/threads", "status": status}]
    control(threads_client, "post", "/faults", body={"rules": rules})
    with pytest.raises(openai.InternalServerError):
        threads_client.with_options(max_retries=0).beta.threads.create()


@pytest.mark.parametrize("degrees", range(5))
def test_scripts_a_reply(threads_client, threads_replies, degrees):
    assert answer(threads_client, "the weather?") == "the weather?"
    threads_replies({"match": "*weather*", "replies": [{"text": f"{degrees} degrees"}]})
    assert answer(threads_client, "the weather?") == f"{degrees} degrees"
    threads_replies({"replies": [{"text": "too late", "delay_ms": 60_000}]})
    assistant = threads_client.beta.assistants.create(model="gpt-4o", instructions="Wait.")
    threads_client.beta.threads.create_and_run(assistant_id=assistant.id)  # it is left behind


@pytest.mark.parametrize("second", range(5))
def test_leaves_the_clock_frozen(threads_client, second):
    control(threads_client, "put", "/clock", body={"frozen_at": second})
    assert threads_client.beta.threads.create().created_at == second


@pytest.mark.parametrize("seed", range(5))
def test_leaves_ids_seeded(threads_client, seed):
    assert threads_client.beta.threads.create().created_at > 10
    control(threads_client, "put", "/ids", body={"seed": 7})
    (Path(__file__).parent / "ids" / str(seed)).write_text(threads_client.beta.threads.create().id)
"""
TINY = "def test_nothing():\n    pass\n"
VITEST_CONFIG = """
export default { test: {
  globalSetup: ["./vitest.setup.mjs"], setupFiles: ["./vitest.setup.mjs"],
  pool: "POOL", maxWorkers: 2, minWorkers: 1, cache: false, sequence: { shuffle: { tests: true } },
} };
"""
VITEST_SUITE = """
import { appendFileSync } from "node:fs";
import OpenAI from "openai";
import { beforeEach, expect, test } from "vitest";
import { setReplies } from "./vitest.setup.mjs";

const client = new OpenAI({ maxRetries: 0 });
const control = (method, path, body) =>
  fetch(new URL(`/_mock${path}`, client.baseURL), {
    method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
  });
const listed = async () => (await client.get("/threads")).data.length;
const answer = async (content) => {
  const { id } = await client.beta.assistants.create({ model: "gpt-4o" });
  const thread = { messages: [{ role: "user", content }] };
  const run = await client.beta.threads.createAndRunPoll({ assistant_id: id, thread });
  return (await client.beta.threads.messages.list(run.thread_id)).data[0].content[0].text.value;
};
beforeEach(() => appendFileSync("servers.txt", `${client.baseURL}\n`));

test.each([0, 1, 2, 3])("creates %i", async (count) => {
  expect(await listed()).toBe(0);
  for (let made = 0; made < count; made++) await client.beta.threads.create();
  expect(await listed()).toBe(count);
});
test.each([500, 503])("leaves the fault %i behind", async (status) => {
  expect(await listed()).toBe(0);
  await control("POST", "/faults", { rules: [{ status }] });
  await expect(client.beta.threads.create()).rejects.toMatchObject({ status });
});
test.each([5, 20])("scripts a reply of %i degrees", async (degrees) => {
  expect(await answer("the weather?")).toBe("the weather?");
  await setReplies({ match: "*weather*", replies: [{ text: `${degrees} degrees` }] });
  expect(await answer("the weather?")).toBe(`${degrees} degrees`);
});
test("leaves the clock frozen", async () => {
  await control("PUT", "/clock", { frozen_at: 7 });
  expect((await client.beta.threads.create()).created_at).toBe(7);
});
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with the conftest to take over and a suite of 30 tests."""
    shutil.copy(ROOT / "examples" / "pytest_conftest.py", tmp_path / "conftest.py")
    (tmp_path / "shuffle.py").write_text(SHUFFLE)
    (tmp_path / "test_sample.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for folder in ("servers", "ids"):
        (tmp_path / folder).mkdir()
    return tmp_path


@pytest.fixture
def vitest(tmp_path: Path, node: str) -> Run:
    """Run a suite of three files with the setup file to take over."""
    npm_install(VITEST_FOLDER, "install", "--no-package-lock")
    shutil.copy(ROOT / "examples" / "vitest.setup.mjs", tmp_path)
    (tmp_path / "node_modules").symlink_to(VITEST_FOLDER / "node_modules")
    for name in "abc":
        (tmp_path / f"{name}.test.mjs").write_text(VITEST_SUITE)

    def run(pool: str = "forks", **settings: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "vitest.config.mjs").write_text(VITEST_CONFIG.replace("POOL", pool))
        command = [node, "node_modules/vitest/vitest.mjs", "run", "--no-color"]
        return ran(command, tmp_path, **settings)

    return run


def ran(command: list[str], folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("THREADS_", "PYTEST_", "OPENAI_"))
    }
    environment = {"THREADS_SERVER": str(ROOT), **inherited, **settings}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def ran_pytest(folder: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the suite without the plugins that happen to be installed here."""
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "no:cacheprovider"]
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_DEBUG_TEMPROOT": str(folder)}
    return ran([*command, *options], folder, **own, **settings)


def is_gone(base_url: str) -> bool:
    try:
        urlopen(base_url, timeout=5).close()
    except URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    return False


@pytest.mark.timeout(400)
def test_thirty_tests_pass_in_any_order_on_two_workers_and_on_none(suite: Path) -> None:
    orders, results, ids = [], [], []
    for seed, workers in ((1, 2), (2, 0)):
        options = ("-n", str(workers), "-p", "shuffle", "--junit-xml=result.xml")
        result = ran_pytest(suite, *options, SHUFFLE_SEED=str(seed))
        cases = list(ElementTree.parse(suite / "result.xml").iter("testcase"))
        orders.append([case.get("name") for case in cases])
        results.append({case.get("name"): [each.tag for each in case] for case in cases})
        ids.append({path.read_text() for path in (suite / "ids").iterdir()})
        assert result.returncode == 0, result.stdout
    assert len(results[0]) == 30
    assert results[1] == results[0]
    assert orders[1] != orders[0]
    assert len(ids[0]) == 1
    assert ids[1] == ids[0]
    servers = [path.read_text() for path in (suite / "servers").iterdir()]
    assert len(set(servers)) == 3  # one a process of pytest, which ends with it
    assert all(map(is_gone, servers))


def test_a_missing_setting_is_named(suite: Path) -> None:
    (suite / "test_sample.py").write_text(TINY)
    result = ran_pytest(suite, THREADS_SERVER="")
    assert "THREADS_SERVER must name the checkout" in result.stdout


def test_a_server_that_refuses_to_start_is_heard(suite: Path) -> None:
    (suite / "test_sample.py").write_text(TINY)
    result = ran_pytest(suite, THREADS_WORKERS="none")
    assert "THREADS_WORKERS" in result.stdout
    assert result.returncode == 1


def test_a_server_that_never_gets_ready_is_ended_and_heard(suite: Path) -> None:
    (suite / "test_sample.py").write_text(TINY)
    (suite / "Makefile").write_text("run:\n\t@echo still busy >&2; sleep 1000\n")
    result = ran_pytest(suite, THREADS_SERVER=str(suite), THREADS_START_SECONDS="0.5")
    assert "did not start in 0.5 s:\nstill busy" in result.stdout


def test_an_outer_make_does_not_disturb_the_start(suite: Path) -> None:
    (suite / "test_sample.py").write_text(TINY)
    assert ran_pytest(suite, MAKEFLAGS="w", MAKELEVEL="1").returncode == 0


@pytest.mark.timeout(400)
@pytest.mark.parametrize("pool", ["forks", "threads"])
def test_vitest_has_one_server_a_worker_and_each_test_a_fresh_one(
    vitest: Run, tmp_path: Path, pool: str
) -> None:
    result = vitest(pool)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"Tests +27 passed", result.stdout)
    servers = set((tmp_path / "servers.txt").read_text().split())
    assert 1 <= len(servers) <= 2
    assert all(map(is_gone, servers))


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("settings", "heard"),
    [
        ({"THREADS_SERVER": ""}, "THREADS_SERVER must name the checkout"),
        ({"THREADS_WORKERS": "none"}, "THREADS_WORKERS"),
        ({"THREADS_START_SECONDS": "0.01"}, "did not start in 0.01 s"),
    ],
    ids=str,
)
def test_vitest_hears_why_no_server_starts(
    vitest: Run, settings: dict[str, str], heard: str
) -> None:
    result = vitest(**settings)
    assert result.returncode == 1
    assert heard in result.stdout + result.stderr
