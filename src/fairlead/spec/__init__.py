"""What is wanted: the use case that ``fairlead.yaml`` declares. What happened is in ``fairlead.records``."""

from __future__ import annotations

from fairlead.spec.bounds import Bound, Quantity
from fairlead.spec.load import FILE_NAME, load, parse
from fairlead.spec.metrics import Metric
from fairlead.spec.model import Limit, Objective, Routing, UseCase
from fairlead.spec.policy import Policy
from fairlead.spec.problems import Problem, SpecError
from fairlead.spec.release import release_hash
from fairlead.spec.report import CheckReport, check
from fairlead.spec.scaffold import first_question, init, templates
from fairlead.spec.schema import json_schema
from fairlead.spec.target import Target
from fairlead.spec.variant import Price, Variant

__all__ = [
    "FILE_NAME",
    "Bound",
    "CheckReport",
    "Limit",
    "Metric",
    "Objective",
    "Policy",
    "Price",
    "Problem",
    "Quantity",
    "Routing",
    "SpecError",
    "Target",
    "UseCase",
    "Variant",
    "check",
    "first_question",
    "init",
    "json_schema",
    "load",
    "parse",
    "release_hash",
    "templates",
]
