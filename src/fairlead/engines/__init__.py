"""Running a model ourselves, one file an engine: start, health, adapters, stop. Knows no storage and no gateway."""
