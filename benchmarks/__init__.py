"""Benchmarks: one module each, run by `make bench NAME=...`; they measure, and never test."""

import fairlead as fairlead  # first of all: it keeps numpy to one thread, as the server does
