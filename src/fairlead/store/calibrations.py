"""Calibrations of judges: written once, never changed; the newest of a judge as it is decides."""

from __future__ import annotations

from sqlalchemy import select

from fairlead.records import JudgeCalibration
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of


class Calibrations:
    """How judges were found to agree with people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, calibration: JudgeCalibration) -> None:
        """Keep a calibration."""
        with self._database.write(durable=True) as connection:
            connection.execute(schema.calibrations.insert().values(row_of(calibration)))

    def list(
        self, *, judge: str | None = None, digest: str | None = None, limit: int = 1_000
    ) -> list[JudgeCalibration]:
        """Calibrations of a judge's name, or of a judge exactly as it is (``digest``), newest first."""
        table = schema.calibrations
        query = select(table)
        if judge is not None:
            query = query.where(table.c.judge == clean(judge))
        if digest is not None:
            query = query.where(table.c.hash == digest)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)).all()
        return [record_of(JudgeCalibration, row) for row in rows]
