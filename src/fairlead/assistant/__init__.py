"""A grounded support assistant on top of the gateway: retrieval, tools, disclosure, hand-off to people."""

from fairlead.assistant.knowledge import Knowledge, Passage

__all__ = ["Knowledge", "Passage"]
