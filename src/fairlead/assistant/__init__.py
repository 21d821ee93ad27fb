"""A grounded support assistant on top of the gateway: retrieval, tools, disclosure, hand-off to people."""

from fairlead.assistant.assistant import Assistant
from fairlead.assistant.events import (
    Act,
    Answer,
    Confirm,
    Delta,
    Done,
    Event,
    Facts,
    Failed,
    HandedOff,
    Sources,
    Started,
)
from fairlead.assistant.intents import Router
from fairlead.assistant.knowledge import Cache, Knowledge, Passage
from fairlead.assistant.tools import Tool, ToolResult, Tools
from fairlead.assistant.upstream import AssistantUpstream

__all__ = [
    "Act",
    "Answer",
    "Assistant",
    "AssistantUpstream",
    "Cache",
    "Confirm",
    "Delta",
    "Done",
    "Event",
    "Facts",
    "Failed",
    "HandedOff",
    "Knowledge",
    "Passage",
    "Router",
    "Sources",
    "Started",
    "Tool",
    "ToolResult",
    "Tools",
]
