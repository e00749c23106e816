"""The `flask` command line."""

import gc

gc.disable()  # what is imported stays: looking through it would only make a command longer
from cli.factory import create_app  # noqa: E402
from cli.options import prepare_database  # noqa: E402

__all__ = ["create_app", "prepare_database"]
gc.freeze()
gc.enable()
