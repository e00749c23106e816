"""`flask keys`: make, list and revoke API keys."""

from datetime import UTC, datetime

import click
from flask import current_app

from access import api_keys
from cli.options import age, prepared_database, project_name
from database.memory import is_memory
from rules.ids_and_clock import unix_now

_NO_MEMORY = "A key in a database in memory ends with this command: set THREADS_DATABASE_URL."


@click.group()
def keys() -> None:
    """Make, list and revoke API keys. From the first one on, every API call needs one."""


@keys.command()
@click.argument("project", type=project_name, metavar="PROJECT")
@click.option("--name", default="", help="A note for yourself.")
@click.option("--expires", type=age, help="Its length of life: 90d, 12w. Default: no end.")
def create(project: str, name: str, expires: int | None) -> None:
    """Print a new key for PROJECT, once. `default` is the project of open mode."""
    if is_memory(current_app):
        raise click.ClickException(_NO_MEMORY)
    with prepared_database():
        secret = api_keys.create(project, name, expires and unix_now() + expires)
        try:
            click.echo(secret)
        except OSError:
            api_keys.revoke(secret)  # nobody has seen it
            raise


@keys.command("list")
def list_all() -> None:
    """List all keys; none is ever shown whole."""
    with prepared_database():
        for key in api_keys.list_all():
            times = f"created {_minute(key.created_at)}, used {_minute(key.last_used_at)}"
            ends = f"expires {_minute(key.expires_at)}, revoked {_minute(key.revoked_at)}"
            click.echo(f"{key.shown}…  {key.project}  {key.name or '-'}  {times}, {ends}")


def _minute(second: int | None) -> str:
    return "-" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M}"


@keys.command()
@click.argument("key")
def revoke(key: str) -> None:
    """Revoke KEY, given whole or as the list shows it."""
    with prepared_database():
        if not api_keys.revoke(key.rstrip("…")):
            raise click.ClickException("No valid key begins so; `flask keys list` shows them.")
    click.echo("Revoked.", err=True)
