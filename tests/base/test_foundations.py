"""Errors, registry and records: the parts every room stands on."""

from __future__ import annotations

import copy
import inspect
import pickle
import string
import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import errors, records
from fairlead.registry import Registry


def kinds() -> Iterator[type[errors.FairleadError]]:
    waiting = [errors.FairleadError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        # One that builds its sentence itself is tested where it is raised.
        if kind.__module__ == "fairlead.errors" and "__init__" not in vars(kind):
            yield kind


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_of_its_own_that_its_fields_fill(kind: type[errors.FairleadError]) -> None:
    assert "__doc__" in vars(kind)
    sentence = inspect.cleandoc(str(kind.__doc__))
    fields = {name for _, name, _, _ in string.Formatter().parse(sentence) if name}
    numeric = {name for _, name, form, _ in string.Formatter().parse(sentence) if name and form}
    error = kind(**{name: 7 if name in numeric else f"<{name}>" for name in fields})
    assert all((f"<{name}>" in str(error)) or name in numeric for name in fields)
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == str(copy.copy(error))


def test_a_registry_loads_by_name_and_lists_the_choices() -> None:
    registry: Registry[object] = Registry("codec", {"json": "json:dumps"}, group="fairlead.nothing")
    assert registry.build("json", [1]) == "[1]"
    with pytest.raises(errors.ChoiceUnknown, match=r"no codec 'yaml'\. Known: json"):
        registry.load("yaml")


def test_ids_sort_by_time_and_say_when() -> None:
    made = [records.new_id() for _ in range(500)]
    assert made == sorted(made)
    assert len(set(made)) == 500
    assert abs(records.time_of(made[-1]) - time.time_ns() // 1000) < 2_000_000


@pytest.mark.parametrize("text", ["", "x", "550e8400-e29b-41d4-a716-446655440000", "'; drop table keys; --"])
def test_time_of_refuses_other_ids(text: str) -> None:
    with pytest.raises(ValueError):
        records.time_of(text)


@given(st.text(), st.dictionaries(st.text(), st.integers(0, 2**40)), st.none() | st.integers(0, 2**60))
def test_an_inference_survives_json(text: str, steps: dict[str, int], cost: int | None) -> None:
    row = records.Inference(
        id=records.new_id(), time=records.now_us(), tenant="t", subject="s", usecase="u", spec_hash="h", release="r",
        input=text, steps=steps, cost=cost,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(row), type=records.Inference) == row
