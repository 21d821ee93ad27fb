"""Kept answers over a restart and between servers, and what never reaches the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from fairlead.gateway.cache import Cache, Rules
from fairlead.guard import mask_text
from fairlead.providers.scripted import Script, Scripted
from fairlead.store.answers import Answers
from tests.gateway.gateway_harness import CHAT, KINDS, House, await_true, build, serving

URL = "/v1/chat/completions"


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {**CHAT, "temperature": 0, "messages": [{"role": "user", "content": text}], **more}


def server(path: Path) -> House:
    cache = Cache(Rules(), secret=b"k" * 32, mask=lambda text: mask_text(text, KINDS), backing=Answers(path))
    return build(Scripted(script=lambda call: Script()), cache=cache)  # says what it is asked


def tell(url: str, *bodies: dict[str, Any]) -> list[str]:
    with httpx.Client(base_url=url, timeout=30) as client:
        return [client.post(URL, json=body).text for body in bodies]


def test_a_restarted_server_knows_what_the_one_before_was_asked(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    bodies = asked("Where is it?"), asked("And now?", stream=True)
    first = server(path)
    with serving(first.gateway) as url:
        before = tell(url, *bodies)
    second = server(path)
    with serving(second.gateway) as url:
        await_true(lambda: second.gateway.cache and second.gateway.cache.entries, "what was kept is read")
        assert tell(url, *bodies) == before
    assert second.upstream.calls == []


def test_two_servers_share_what_either_was_asked_and_both_forget(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    one, other = server(path), server(path)
    with serving(one.gateway) as first, serving(other.gateway) as second:
        tell(first, asked("Where is it?"))
        await_true(lambda: other.gateway.cache and other.gateway.cache.entries, "the other server reads it")
        tell(second, asked("Where is it?"))
        assert other.upstream.calls == []
        command = Answers(path)
        assert command.purge() == 1
        command.close()
        await_true(lambda: one.gateway.cache and not one.gateway.cache.entries, "the first server forgets")
        tell(first, asked("Where is it?"))
    assert len(one.upstream.calls) == 2


def test_what_is_personal_stays_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    house = server(path)
    personal = asked("My address is anna.smith@example.com"), asked("anna.smith@example.com please", stream=True)
    with serving(house.gateway) as url:
        tell(url, *personal, *personal, asked("Where is it?"))
    assert len(house.upstream.calls) == 3  # answered again from memory
    assert [answer.data.count(b"Where is it?") for answer in Answers(path).newest()] == [1]
    for file in tmp_path.iterdir():
        assert b"anna.smith" not in file.read_bytes()


def test_a_disk_that_cannot_be_used_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    path.mkdir()  # no file can be there
    house = server(path)
    with serving(house.gateway) as url:
        assert len(set(tell(url, asked("Where is it?"), asked("Where is it?")))) == 1
    assert len(house.upstream.calls) == 1
