"""The schema and the migrations that lead to it agree; opening a store is quick."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from fairlead.records import Inference, Limits, Record
from fairlead.store import Store, migrations, schema
from fairlead.store.traces.index import FIGURES
from fairlead.store.traces.parquet import TYPES
from tests.store.store_helpers import run_script


def _migrated(path: Path, revision: str = "head") -> Engine:
    engine = create_engine(f"sqlite:///{path}")
    migrations.upgrade(engine, revision)
    return engine


def _definitions(path: Path) -> set[tuple[str, str, str]]:
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {(kind, name, re.sub(r"\s+", "", sql)) for kind, name, sql in rows}


def test_the_constant_is_the_newest_revision() -> None:
    assert migrations.head() == schema.HEAD


def test_migrating_an_empty_file_leads_to_the_schema(tmp_path: Path) -> None:
    engine = _migrated(tmp_path / "db")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert context.get_current_revision() == schema.HEAD
    engine.dispose()


def test_a_new_store_equals_a_migrated_one(tmp_path: Path) -> None:
    Store.open(tmp_path / "new").close()
    _migrated(tmp_path / "db").dispose()
    assert _definitions(tmp_path / "new" / "fairlead.db") == _definitions(tmp_path / "db")


def test_an_older_store_is_migrated_when_opened(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'fairlead.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
    engine.dispose()
    with Store.open(tmp_path) as store:
        store.usecases.put("shop", "h", "{}")
        assert store._database.revision() == schema.HEAD


def test_keys_survive_the_migration_that_gives_them_terms(tmp_path: Path) -> None:
    engine = _migrated(tmp_path / "fairlead.db", "0004")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO keys (id, name, prefix, digest, scopes, tenant, created) "
            "VALUES ('k1', 'app', 'fl-12345678', 'd', '[\"inference\"]', 'acme', 5)"
        )
    engine.dispose()
    with Store.open(tmp_path) as store:
        (key,) = store.keys.active()
    assert (key.id, key.name, key.tenant, key.scopes, key.created) == ("k1", "app", "acme", ("inference",), 5)
    assert (key.origin, key.models, key.priority, key.limits) == ("k1", (), "standard", Limits())


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'db'}")

    @event.listens_for(engine, "connect")
    def _plain(driver: sqlite3.Connection, _: object) -> None:
        driver.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: object) -> None:
        connection.exec_driver_sql("BEGIN")  # type: ignore[attr-defined]

    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE usecases (in_the_way INTEGER)")
    before = _definitions(tmp_path / "db")
    with pytest.raises(OperationalError, match="usecases already exists"):
        migrations.upgrade(engine)
    engine.dispose()
    assert _definitions(tmp_path / "db") == before


def test_what_is_about_people_says_whose_it_is() -> None:
    required = set(Record.__struct_fields__)
    for table in (schema.conversations, schema.messages, schema.feedback, schema.handoffs, schema.audit):
        assert required <= set(table.columns.keys()), table.name
    assert {"tenant", "subject", "spec_hash", "release"} <= set(schema.releases.columns.keys())


def test_segments_have_a_column_for_every_field() -> None:
    assert set(TYPES) == set(Inference.__struct_fields__)
    assert set(FIGURES) <= set(TYPES)
    for field in msgspec.structs.fields(Inference):
        assert TYPES[field.name] in {"VARCHAR", "BIGINT", "BOOLEAN", "JSON"}


def test_opening_loads_neither_alembic_nor_duckdb(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fairlead.store import Store
for _ in range(2):
    with Store.open(Path(sys.argv[1])) as store:
        store.traces.append.__self__.flush()
        store.keys.version()
print([name for name in ("alembic", "duckdb", "numpy", "pandas") if name in sys.modules])
"""
    with run_script(script, tmp_path) as process:
        output, problems = process.communicate(timeout=120)
    assert output == "[]\n", problems
