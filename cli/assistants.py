"""`flask assistants`: assistants out and in; their ids are in the settings of programs."""

import click

from cli.data import import_, output, to_file
from cli.options import prepared_database, project
from exchange import exports


@click.group()
def assistants() -> None:
    """Export and import assistants, with their ids."""


@assistants.command()
@to_file
@project
def export(path: str, project: str) -> None:
    """Write assistants as JSON Lines, oldest first."""
    with prepared_database(), output(path) as file:
        file.writelines(exports.export_assistants(project))


assistants.add_command(import_)
