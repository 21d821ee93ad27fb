"""Work that outlives the process that does it: a durable queue (``Store.jobs``) and the worker that takes from it.

Knows no kind of work: who builds a ``Worker`` gives it a handler for each kind (see docs/design/jobs.md).
"""

from fairlead.jobs.worker import Handler, Lease, LeaseLost, Worker

__all__ = ["Handler", "Lease", "LeaseLost", "Worker"]
