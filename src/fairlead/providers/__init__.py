"""Calling a model over HTTP, one file a provider: translate, call, stream. Knows no storage and no gateway."""
