"""Files and batches: many requests answered together when there is room (see docs/design/batches.md).

``Batches`` is what can be done with them, ``Runner`` does one batch, ``Surface`` is the HTTP side.
"""

from fairlead.batch.http import Surface
from fairlead.batch.lines import Limits
from fairlead.batch.live import Live
from fairlead.batch.openapi import described
from fairlead.batch.runner import KIND, Runner
from fairlead.batch.service import Batches
from fairlead.batch.spare import Spare
from fairlead.batch.work import Backend

__all__ = ["KIND", "Backend", "Batches", "Limits", "Live", "Runner", "Spare", "Surface", "described"]
