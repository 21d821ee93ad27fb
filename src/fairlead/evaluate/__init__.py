"""The ruler: what was measured, how sure that is, and what follows for an objective.

Statistics (``intervals``, ``bootstrap``, ``sequences``, ``significance``, ``planning``) know numbers only; ``verdict``
knows objectives; ``samples``, ``reading``, ``likeness``, ``splits``, ``production`` and ``datasets`` are the data;
``scorers`` turn an answer into a value. ``runner`` asks ``candidates`` within a ``purse`` and a ``throttle``.
"""
