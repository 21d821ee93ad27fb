"""Fairlead takes a large language model use case from a one-page definition to production, and keeps it there."""

__version__ = "0.1.0"
