"""The offline answerer: quotes the passages given, calls tools, asks for what is missing, knows when it doesn't know.

In-process behind the OpenAI protocol, a pure function of the request, numpy only.
"""

from fairlead.engines.extractive.engine import Extractive

__all__ = ["Extractive"]
