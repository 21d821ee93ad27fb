"""Derived results: kept, found again, dropped when there are too many; never a reason to fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fairlead.store import derived
from fairlead.store.derived import Derived

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def test_what_is_put_is_found(tmp_path: Path) -> None:
    shelf = Derived(tmp_path / "derived")
    assert shelf.get(A) is None
    shelf.put(A, b"one")
    shelf.put(A, b"two")
    assert shelf.get(A) == b"two"
    assert shelf.get(B) is None


def test_the_least_used_are_dropped_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "MAX_BYTES", 25)
    shelf = Derived(tmp_path)
    for age, key in enumerate((A, B)):
        shelf.put(key, bytes(10))
        os.utime(tmp_path / key, (1_000 + age, 1_000 + age))
    assert shelf.get(A) is not None  # used just now, so B is the one to go
    shelf.put(C, bytes(10))
    assert shelf.get(B) is None
    assert shelf.get(A) is not None
    assert shelf.get(C) is not None


def test_a_key_cannot_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        Derived(tmp_path).put("../../escape", b"")


def test_a_directory_that_cannot_be_used_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "derived").write_text("a file is in the way")
    shelf = Derived(tmp_path / "derived")
    shelf.put(A, b"x")
    assert shelf.get(A) is None
