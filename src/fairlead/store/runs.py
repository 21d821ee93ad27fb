"""Runs: which variants were measured on what, the answers that were paid for, and what each was worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Text, delete, func, select, type_coerce, update

from fairlead.errors import RecordUnknown, RunAmbiguous, RunUnknown
from fairlead.records import Answered, Result, Run
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, like, record_of, row_of

T = TypeVar("T", bound=msgspec.Struct)
AT_ONCE = 500
"""Keys asked for in one statement; SQLite allows many more, PostgreSQL plans badly with them."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A result with the answer it is about."""

    result: Result
    answered: Answered


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer was worth, by scorer; ``error`` where there is none."""

    sample: str
    epoch: int
    error: str
    values: dict[str, Any]


class _Brief(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is read of a report for a list."""

    choice: dict[str, Any] = {}
    samples: int | None = None
    calls: int | None = None


class Runs:
    """What was measured. Answers outlive the run that asked for them; results belong to one run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, run: Run) -> None:
        """Keep a run that begins now."""
        with self._database.write() as connection:
            connection.execute(schema.runs.insert().values(row_of(run)))

    def end(self, run: Run) -> None:
        """Keep how a run ended: its state, end, cost and report. Raises RecordUnknown."""
        table = schema.runs
        values = {name: clean(getattr(run, name)) for name in ("state", "ended", "cost", "report")}
        with self._database.write(durable=True) as connection:
            if not connection.execute(update(table).where(table.c.id == run.id).values(values)).rowcount:
                raise RecordUnknown(kind="run", id=run.id)

    def get(self, identifier: str) -> Run:
        """The run whose id is, or ends with, ``identifier``. Raises RunUnknown, RunAmbiguous.

        The end and not the beginning: ids begin with the time, so those of one day begin alike.
        """
        table = schema.runs
        query = select(table).where(table.c.id.like(like(identifier)[:-1], escape="\\")).limit(3)
        with self._database.read() as connection:
            found = [record_of(Run, row) for row in connection.execute(query)] if identifier else []
        exact = [run for run in found if run.id == identifier] or found
        if not exact:
            raise RunUnknown(id=identifier)
        if len(exact) > 1:
            raise RunAmbiguous(name=identifier, found=", ".join(run.id for run in exact))
        return exact[0]

    def list(
        self,
        *,
        since: int,
        until: int,
        usecase: str | None = None,
        tenant: str | None = None,
        limit: int = 100,
        brief: bool = False,
    ) -> list[Run]:
        """Runs of ``since <= time < until``, newest first.

        ``brief`` leaves of every report what a list shows (choice, samples, calls): a report is a hundred kilobytes.
        """
        table = schema.runs
        report = type_coerce(table.c.report, Text).label("report") if brief else table.c.report
        columns = [report if column.name == "report" else column for column in table.c]
        query = select(*columns).where(table.c.time >= since, table.c.time < until)
        if usecase is not None:
            query = query.where(table.c.usecase == clean(usecase))
        if tenant is not None:
            query = query.where(table.c.tenant == clean(tenant))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)).all()
        if not brief:
            return [record_of(Run, row) for row in rows]
        return [record_of(Run, {**row._mapping, "report": _brief(row.report)}) for row in rows]  # noqa: SLF001

    def add(self, answered: Iterable[Answered], results: Iterable[Result]) -> None:
        """Keep answers and results, all or none."""
        answers, rows = [row_of(each) for each in answered], [row_of(each) for each in results]
        if not answers and not rows:
            return
        with self._database.write() as connection:
            if answers:
                connection.execute(schema.answers.insert(), answers)
            if rows:
                connection.execute(schema.results.insert(), rows)

    def answers(self, keys: Sequence[str]) -> dict[str, Answered]:
        """The newest answer of each key; keys without one, or with nothing but errors, are left out."""
        table, found = schema.answers, {}
        with self._database.read() as connection:
            for start in range(0, len(keys), AT_ONCE):
                chosen = table.c.key.in_(keys[start : start + AT_ONCE])
                query = select(table).where(chosen, table.c.error == "").order_by(table.c.time, table.c.id)
                for row in connection.execute(query):
                    found[str(row.key)] = record_of(Answered, row)
        return found

    def scores(self, answered: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Answer id to the scores it was given last, whatever the run."""
        table, found = schema.results, {}
        with self._database.read() as connection:
            for start in range(0, len(answered), AT_ONCE):
                chosen = table.c.answered.in_(answered[start : start + AT_ONCE])
                query = select(table.c.answered, table.c.scores).where(chosen).order_by(table.c.time, table.c.id)
                found.update({str(row.answered): row.scores for row in connection.execute(query)})
        return found

    def results(
        self, run: str, *, variant: str | None = None, samples: Sequence[str] | None = None
    ) -> Iterator[Measured]:
        """Everything of a run in the order it came, answers with it, or only that of a variant or some samples."""
        mine, theirs = schema.results, schema.answers
        columns = [*(c.label(f"r_{c.name}") for c in mine.c), *(c.label(f"a_{c.name}") for c in theirs.c)]
        query = select(*columns).join(theirs, theirs.c.id == mine.c.answered).where(mine.c.run == run)
        if variant is not None:
            query = query.where(mine.c.variant == clean(variant))
        if samples is not None:
            query = query.where(mine.c.sample.in_([clean(each) for each in samples]))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(mine.c.id)).mappings().all()
        for row in rows:
            yield Measured(result=_part(Result, row, "r_"), answered=_part(Answered, row, "a_"))

    def marks(self, run: str, variant: str) -> Sequence[Mark]:
        """What each answer of a candidate was worth, without the answers, in the order they came."""
        mine, theirs = schema.results, schema.answers
        query = (
            select(mine.c.sample, mine.c.epoch, mine.c.scores, theirs.c.error)
            .join(theirs, theirs.c.id == mine.c.answered)
            .where(mine.c.run == run, mine.c.variant == clean(variant))
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(mine.c.id)).all()
        return [
            Mark(sample=row.sample, epoch=row.epoch, error=row.error,
                 values={name: score.get("value") for name, score in row.scores.items()})
            for row in rows
        ]  # fmt: skip

    def count(self, run: str) -> dict[str, int]:
        """Variant to its results of a run."""
        table = schema.results
        query = select(table.c.variant, func.count()).where(table.c.run == run).group_by(table.c.variant)
        with self._database.read() as connection:
            return {str(name): int(number) for name, number in connection.execute(query)}

    def delete(self, identifier: str) -> None:
        """Remove a run and its results; the answers stay, as other runs rest on them."""
        with self._database.write(durable=True) as connection:
            connection.execute(delete(schema.results).where(schema.results.c.run == identifier))
            connection.execute(delete(schema.runs).where(schema.runs.c.id == identifier))


def _brief(report: str) -> dict[str, Any]:
    """The part of a report that a list shows; empty for one that is none of ours."""
    try:
        return dict(msgspec.to_builtins(msgspec.json.decode(report, type=_Brief)))
    except msgspec.ValidationError:
        return {}


def _part(kind: type[T], row: Any, prefix: str) -> T:
    return msgspec.convert({name: row[prefix + name] for name in kind.__struct_fields__}, kind)
