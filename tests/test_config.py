"""The THREADS_… variables: defaults, good values, and refusals that name every wrong one."""

import os
from pathlib import Path
from typing import Any

import pytest
from environs import EnvValidationError

import config

ROOT = Path(config.__file__).parent
DEFAULTS = {
    "DATABASE_URL": f"sqlite:///{ROOT}/instance/threads.db",
    "BIND": "127.0.0.1:8000",
    "WORKERS": None,
    "WORKER_THREADS": 4,
    "DURABILITY": "full",
    "MAX_BODY_BYTES": 16_777_216,
    "MOCK": "auto",
    "SEED": "",
    "RUNS": 16,
    "REPLIES": "",
    "MODEL_URL": "",
    "MODEL_KEY": None,
    "MODELS": {},
    "MODEL_TIMEOUT": 120,
    "REQUIRE_BETA": False,
    "TRUSTED_PROXIES": 0,
    "CORS_ORIGINS": [],
    "TRUSTED_HOSTS": [],
    "SECRET_KEY": None,
}
TWO_ORIGINS = ["https://a.example", "https://b.example"]
GOOD = [
    ("DATABASE_URL", "memory", "memory"),
    ("DATABASE_URL", "sqlite:////srv/threads.db", "sqlite:////srv/threads.db"),
    ("DATABASE_URL", "sqlite:////srv/a b;c=ä🙂&+.db", "sqlite:////srv/a b;c=ä🙂&+.db"),
    ("BIND", "127.0.0.1:0", "127.0.0.1:0"),
    ("BIND", "localhost:65535", "localhost:65535"),
    ("BIND", "[::1]:8000", "[::1]:8000"),
    ("WORKERS", "1", 1),
    ("WORKERS", "64", 64),
    ("WORKER_THREADS", "1", 1),
    ("WORKER_THREADS", "64", 64),
    ("DURABILITY", "full", "full"),
    ("DURABILITY", "normal", "normal"),
    ("MAX_BODY_BYTES", "1024", 1024),
    ("MAX_BODY_BYTES", "1073741824", 1 << 30),
    ("MOCK", "on", "on"),
    ("MOCK", "off", "off"),
    ("SEED", "/srv/seed.jsonl", "/srv/seed.jsonl"),
    ("RUNS", "1", 1),
    ("RUNS", "1024", 1024),
    ("REPLIES", "/srv/replies.json", "/srv/replies.json"),
    ("MODEL_URL", "http://127.0.0.1:11434/v1", "http://127.0.0.1:11434/v1"),
    ("MODEL_URL", "https://[::1]/v1/", "https://[::1]/v1/"),
    ("MODEL_KEY", "sk-a/b+c=", "sk-a/b+c="),
    ("MODELS", "gpt-4o=qwen3:8b, *=llama3.2", {"gpt-4o": "qwen3:8b", "*": "llama3.2"}),
    ("MODELS", "a = org/b=c ,", {"a": "org/b=c"}),
    ("MODEL_TIMEOUT", "1", 1),
    ("MODEL_TIMEOUT", "3600", 3600),
    ("REQUIRE_BETA", "on", True),
    ("TRUSTED_PROXIES", "1", 1),
    ("CORS_ORIGINS", "https://a.example", ["https://a.example"]),
    ("CORS_ORIGINS", "https://a.example,https://b.example", TWO_ORIGINS),
    ("CORS_ORIGINS", " https://a.example ,, https://b.example,", TWO_ORIGINS),
    ("CORS_ORIGINS", "https://a.example, https://b.example", TWO_ORIGINS),
    ("CORS_ORIGINS", "http://[::1]:3000 null", ["http://[::1]:3000", "null"]),
    ("CORS_ORIGINS", "", []),
    ("TRUSTED_HOSTS", "box.lan,192.168.1.5", ["box.lan", "192.168.1.5"]),
    ("TRUSTED_HOSTS", "box.lan,", ["box.lan"]),
    ("TRUSTED_HOSTS", "box.lan:8000 [fe80::1] fe80::1", ["box.lan:8000", "[fe80::1]", "fe80::1"]),
    ("TRUSTED_HOSTS", "", []),
    ("SECRET_KEY", "s" * 32, "s" * 32),
]
BAD = {
    "DATABASE_URL": [
        "",
        "threads.db",
        "sqlite://",
        "sqlite:///relative.db",
        "sqlite:////",
        "sqlite:///:memory:",
        "sqlite:////srv/a?b=c",
        "sqlite:////srv/threads.db?mode=ro",
        "sqlite:////srv/a#b",
        "sqlite:////srv/a%3Fb",
        "postgresql://localhost/threads",
        "mysql://localhost/threads",
        "postgresql+psycopg://host:abc/threads",
        "postgresql+psycopg://user@[::1/threads",
        "Memory",
    ],
    "BIND": [
        "",
        "8000",
        ":8000",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:http",
        "127.0.0.1:-1",
        "127.0.0.1:65536",
        "127.0.0.1:٨",
        "unix:/tmp/socket",
    ],
    "WORKERS": ["", "0", "-1", "65", "two", "1.5", "1e1"],
    "WORKER_THREADS": ["", "0", "-1", "65", "four", "4.0"],
    "RUNS": ["", "0", "1025", "many"],
    "MODEL_URL": [
        "localhost:11434/v1",
        "ftp://a.example/v1",
        "http://",
        "http://a.example:port/v1",
        "https://user:secret@a.example/v1",
        "https://a.example/v1?key=secret",
        "http://a.example/v 1",
    ],
    "MODEL_KEY": ["", "sk secret", "sk-secret\n", "schlüssel"],
    "MODELS": ["llama3.2", "gpt-4o=", "=llama3.2", "a=b,c"],
    "MODEL_TIMEOUT": ["", "0", "3601", "2m"],
    "DURABILITY": ["", "off", "FULL", "extra"],
    "MAX_BODY_BYTES": ["", "0", "1023", "1073741825", "16MB", "-1"],
    "TRUSTED_HOSTS": ["*", "*.lan", "http://box.lan/", "box.lan/"],
    "CORS_ORIGINS": [
        "*",
        "a.example",
        "https://*.a.example",
        "https://a.example/",
        "https://a.example/page",
        "https://A.example",
        "https://a.example:port",
        "https://a.example, b.example",
    ],
}


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("THREADS_"):
            monkeypatch.delenv(name)


def settings(monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    for name, value in variables.items():
        monkeypatch.setenv(f"THREADS_{name}", value)
    return config.from_env()


def test_every_setting_has_its_default() -> None:
    assert config.from_env() == DEFAULTS


@pytest.mark.parametrize(("name", "text", "value"), GOOD)
def test_a_good_value_changes_its_setting_only(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    defaults = config.from_env()
    assert settings(monkeypatch, **{name: text}) == defaults | {name: value}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, values in BAD.items() for text in values]
)
def test_a_wrong_value_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    with pytest.raises(EnvValidationError) as refusal:
        settings(monkeypatch, **{name: text})
    assert list(refusal.value.error_messages) == [f"THREADS_{name}"]


@pytest.mark.parametrize("sign", ["?", "#", "%"])
def test_a_sign_that_would_change_the_path_of_the_database_is_named(
    monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    with pytest.raises(EnvValidationError) as refusal:
        settings(monkeypatch, DATABASE_URL=f"sqlite:////srv/a{sign}b")
    reason = f"A path of a database cannot hold {sign}, nor any of ?, # and %."
    assert refusal.value.error_messages == {"THREADS_DATABASE_URL": [reason]}


def test_all_wrong_values_are_named_in_one_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvValidationError) as refusal:
        settings(monkeypatch, **{name: values[1] for name, values in BAD.items()})
    assert set(refusal.value.error_messages) == {f"THREADS_{name}" for name in BAD}
    assert all(f"THREADS_{name}" in str(refusal.value) for name in BAD)


def test_a_variable_without_the_prefix_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = config.from_env()
    monkeypatch.setenv("WORKERS", "9")
    monkeypatch.setenv("DATABASE_URL", "memory")
    assert config.from_env() == defaults


@pytest.mark.parametrize(
    ("bind", "parts"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_a_host_and_a_port(bind: str, parts: tuple[str, int]) -> None:
    assert config.address(bind) == parts


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.0.1", "::1"])
def test_a_loopback_name_or_address_is_loopback(host: str) -> None:
    assert config.is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "10.0.0.1", "localhost.example", "127.1", "2130706433", "[::1]"]
)
def test_any_other_host_is_not_loopback(host: str) -> None:
    assert not config.is_loopback(host)


def test_a_refusal_does_not_show_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvValidationError) as refusal:
        settings(monkeypatch, MODEL_URL="https://user:secret@a.example", MODEL_KEY="sk secret")
    assert "secret" not in str(refusal.value)
