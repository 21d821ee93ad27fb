"""Fairlead takes a large language model use case from a one-page definition to production, and keeps it there."""

import os

__version__ = "0.1.0"

# Our matrices are small: OpenBLAS's other threads win nothing and wait busily, which tripled the CPU of an answer.
# It reads this when numpy is first imported; whoever has set it keeps their choice.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
