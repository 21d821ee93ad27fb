"""One running shop for all tests of the pages; limits are out of the way, except where a test is about them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.console.scene import Scene, serve


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A shop that is served."""
    folder: Path = tmp_path_factory.mktemp("scene")
    with serve(folder, chat_per_minute=100_000, chat_streams=1_000) as running:
        yield running


@pytest.fixture
def web(scene: Scene) -> Iterator[httpx.Client]:
    """A browser without JavaScript and without a login."""
    with httpx.Client(base_url=scene.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def desk(scene: Scene) -> Iterator[httpx.Client]:
    """A logged-in operator."""
    with httpx.Client(base_url=scene.url, timeout=60) as client:
        answer = client.post("/console/login", data={"key": scene.key})
        assert answer.status_code == 303, answer.text
        yield client
