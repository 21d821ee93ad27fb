"""A command as a person meets it, and a shop to run it on."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.cli import main
from tests.cli.ran import Command, Ran, copy_shop


@pytest.fixture(name="run")
def run_fixture(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command as through a pipe, whatever stands around the tests."""
    for name in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        shown = capfd.readouterr()
        code = left.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), shown.out, shown.err)

    return run


@pytest.fixture(name="shop")
def shop_fixture(tmp_path: Path) -> Path:
    """A copy of the reference shop, so that a test leaves nothing in the repository."""
    return copy_shop(tmp_path)


@pytest.fixture(name="inside")
def inside_fixture(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy of the shop, with the test standing in it."""
    monkeypatch.chdir(shop)
    return shop
