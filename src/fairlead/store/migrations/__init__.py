"""The way from an older schema to this one. Imports Alembic, so only import this when there is something to migrate."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

_FOLDER = Path(__file__).parent


def config() -> Config:
    """Alembic's configuration, without an ini file."""
    made = Config()
    made.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    return made


def revisions() -> frozenset[str]:
    """Every revision this Fairlead knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(config()).walk_revisions())


def head() -> str | None:
    """The newest revision."""
    return ScriptDirectory.from_config(config()).get_current_head()


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database to a revision, in one transaction."""
    with engine.connect() as plain:
        connection = plain.execution_options(fairlead_write=True)
        with connection.begin():
            settings = config()
            settings.attributes["connection"] = connection
            command.upgrade(settings, revision)
