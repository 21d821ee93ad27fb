"""A router as a variant of a served project: who answers is decided by its file, and paid for is who answered."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fairlead.admission.books import Periods
from fairlead.app import Fairlead, build, doubts, faults, makes_of, price_of
from fairlead.app.rulers import candidates
from fairlead.cli import main
from fairlead.errors import RouterRefused
from fairlead.evaluate import measures
from fairlead.evaluate.scorers import make_scorer
from fairlead.gateway import Principal
from fairlead.gateway.route import chosen_for
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Inference, Sample, now_us
from fairlead.select.routing import Learnt, from_file, learn, to_file
from fairlead.settings import Settings
from fairlead.spec import SpecError, load
from tests.evaluate.runner_harness import running
from tests.gateway.gateway_harness import build as gateway_of
from tests.gateway.gateway_harness import route, serving
from tests.select.select_harness import questions

FILE = """
fairlead: 1
name: desk
purpose: Answer.
users: {{who: customers}}
risk: limited
budget: {{per_day_usd: {budget}}}
variants:
  - {{id: small, model: "{url}/v1#small", price: {{input_usd_per_million: 1, output_usd_per_million: 2}}}}
  - {{id: big, model: "{url}/v1#big", price: {{input_usd_per_million: 1000, output_usd_per_million: 2000}}{big}}}
  - {{id: routed, model: "router:./router.json", between: {{small: small, big: big}}{more}}}
live: {live}
"""
EASY = "When do you open on day 9?"
HARD = "Prove that 77 is the sum of two primes."
ME = Principal(tenant="default", subject="test")
Project = Callable[..., Settings]


@pytest.fixture(name="learnt", scope="module")
def learnt_fixture() -> Learnt:
    return learn(questions(3_000), "small", "big", small_cost=0.01, big_cost=1.0)


@pytest.fixture(name="models")
def models_fixture() -> Iterator[tuple[str, dict[str, Scripted]]]:
    """Two models behind a server of their own."""
    scripted = {name: Scripted(name, Script(text=f"{name} says so")) for name in ("small", "big")}
    house = gateway_of(routes={name: route(each, name) for name, each in scripted.items()})
    with serving(house.gateway) as url:
        yield url, scripted


@pytest.fixture(name="project")
def project_fixture(tmp_path: Path, learnt: Learnt, models: tuple[str, Any]) -> Project:
    def make(live: str = "routed", more: str = "", big: str = "", budget: str = "5") -> Settings:
        text = FILE.format(url=models[0], live=live, more=more, big=big, budget=budget)
        (tmp_path / "fairlead.yaml").write_text(text, encoding="utf-8")
        settings = Settings(project=tmp_path, journal_flush_ms=20, require_key=False)
        (tmp_path / "router.json").write_bytes(to_file(learnt))
        makes = makes_of(load(settings.spec_path), ("small", "big"))
        source = msgspec.structs.replace(learnt.source, makes=makes, runs=("a-run-70b4895f",))
        (tmp_path / "router.json").write_bytes(to_file(msgspec.structs.replace(learnt, source=source)))
        return settings

    return make


@pytest.fixture(name="fairlead")
async def fairlead_fixture(project: Project) -> AsyncIterator[Fairlead]:
    made = build(project())
    yield made
    await made.stop()


def _body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "routed", "max_tokens": 50, "messages": [{"role": "user", "content": text}], **more}


def _records(fairlead: Fairlead, operation: str = "chat") -> list[Inference]:
    fairlead.gateway.write_records()
    fairlead.store.traces.flush()
    rows = fairlead.store.traces.query(since=0, until=now_us() + 1, order="asc")
    return [row for row in rows if row.operation == operation]


def _cost(row: Inference, price: tuple[int, int]) -> int:
    return row.input_tokens * price[0] + row.output_tokens * price[1]


@pytest.mark.parametrize("stream", [False, True])
async def test_who_answers_is_recorded_with_the_reason_and_its_price(fairlead: Fairlead, stream: bool) -> None:
    with serving(fairlead.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            for text, name in ((EASY, "small"), (HARD, "big")):
                reply = await client.post("/v1/chat/completions", json=_body(text, stream=stream))
                assert reply.status_code == 200, reply.text
                assert name in reply.text
        rows = _records(fairlead)
    assert [row.variant for row in rows] == ["routed", "routed"], "what was asked for is what is measured"
    assert {row.release for row in rows} == {fairlead.releases["routed"]}
    assert [(row.provider, row.model) for row in rows] == [("small", "small"), ("big", "big")]
    assert [row.tags["routed"] for row in rows] == ["small", "big"]
    assert [" <= " in row.tags["routed_why"] for row in rows] == [True, False]
    assert [row.cost for row in rows] == [_cost(rows[0], (1_000, 2_000)), _cost(rows[1], (1_000_000, 2_000_000))]
    assert rows[0].cost


async def test_a_budget_sets_the_dearer_price_aside_and_is_charged_the_real_one(fairlead: Fairlead) -> None:
    held: list[int] = []

    async def look(x: Any) -> None:
        held.extend(promise._part for each in x.afterwards for promise in getattr(each, "promises", ()))

    steps = fairlead.gateway._path.steps
    steps["screen"] = (look,)
    await fairlead.gateway.complete(_body(EASY), principal=ME)
    await fairlead.gateway.complete(_body(HARD), principal=ME)
    assert min(held) > 50 * 2_000_000, "both could have been the big one's, until it was known"
    costs = [row.cost for row in _records(fairlead)]
    await fairlead.admission.bank.report()
    periods = Periods()
    periods.turn(now_us())
    [account] = fairlead.store.ledger.balances("desk", (periods.day,))
    assert account.paid == sum(cost or 0 for cost in costs) > 0
    assert fairlead.store.ledger.reconcile("desk") == []


async def test_a_budget_spent_by_the_big_one_ends_the_router_too(project: Project, models: Any) -> None:
    fairlead = build(project(budget="0.01"))
    try:
        with serving(fairlead.gateway) as url:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                replies = [await client.post("/v1/chat/completions", json=_body(text)) for text in (HARD, EASY)]
        assert [each.status_code for each in replies] == [200, 429]
        assert replies[1].json()["error"]["code"] == "insufficient_quota"
        assert [len(each.calls) for each in models[1].values()] == [0, 1]
    finally:
        await fairlead.stop()


async def test_what_is_no_text_goes_to_the_big_one(fairlead: Fairlead) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = _body("") | {"messages": [{"role": "user", "content": [{"type": "text", "text": EASY}, picture]}]}
    await fairlead.gateway.complete(body, principal=ME)
    [row] = _records(fairlead)
    assert (row.tags["routed"], row.tags["routed_why"]) == ("big", "no text to go by")
    parts = _body("") | {"messages": [{"role": "user", "content": [{"type": "text", "text": EASY}]}]}
    await fairlead.gateway.complete(parts, principal=ME)
    assert _records(fairlead)[-1].tags["routed"] == "small"


async def test_a_question_asked_again_is_given_the_kept_answer_of_who_was_chosen(
    fairlead: Fairlead, models: tuple[str, dict[str, Scripted]]
) -> None:
    key = fairlead.store.keys.create("client", ("inference",))[1]
    with serving(fairlead.gateway) as url:
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, timeout=30, headers=headers) as client:
            for model in ("routed", "routed", "routed", "small"):
                body = _body(EASY, temperature=0) | {"model": model}
                assert "small says so" in (await client.post("/v1/chat/completions", json=body)).text
        rows = _records(fairlead)
    assert len(models[1]["small"].calls) == 1
    assert [row.tags.get("cache", "") for row in rows] == ["", "exact", "exact", "exact"]
    assert [row.variant for row in rows] == ["routed", "routed", "routed", "small"]
    assert [row.tags.get("routed") for row in rows] == ["small", "small", "small", None]
    assert rows[0].cost
    assert [(row.cost, row.input_tokens) for row in rows[1:]] == [(0, 0)] * 3, "nobody was asked"


async def test_a_stand_in_of_the_chosen_one_answers_and_is_paid(project: Project, models: Any) -> None:
    fairlead = build(project(big=", fallback: [small]"))
    models[1]["big"].script = Script(status=500)
    try:
        answer = await fairlead.gateway.complete(_body(HARD), principal=ME)
        assert answer["choices"][0]["message"]["content"] == "small says so"
        [row] = _records(fairlead)
        assert (row.variant, row.model, row.tags["routed"]) == ("routed", "small", "big")
        assert row.tags["fallback"].startswith("big:")
        assert row.cost == _cost(row, (1_000, 2_000))
    finally:
        await fairlead.stop()


async def test_the_assistant_routes_a_turn_as_a_whole(fairlead: Fairlead) -> None:
    for text, name in ((EASY, "small"), (HARD, "big")):
        answer = await fairlead.assistant.ask(text)
        assert (answer.variant, answer.answered) == ("routed", name)
    outer = _records(fairlead, "assistant")
    assert [(row.variant, row.tags["routed"]) for row in outer] == [("routed", "small"), ("routed", "big")]
    assert {row.release for row in outer} == {fairlead.releases["routed"]}
    inner = _records(fairlead)
    assert [row.parent for row in inner] == [row.id for row in outer]
    assert [row.variant for row in inner] == ["small", "big"]
    assert (inner[1].cost or 0) > 100 * (inner[0].cost or 0) > 0


@pytest.mark.parametrize("through", ["gateway", "assistant"])
async def test_an_evaluation_pays_for_who_answered(fairlead: Fairlead, tmp_path: Path, through: Any) -> None:
    [candidate] = candidates(fairlead, [fairlead.usecase.variant("routed")], through=through)
    assert candidate.price == (1_000_000.0, 2_000_000.0), "set aside is the most it may cost"
    samples = [Sample(id=name, input=text) for name, text in (("easy", EASY), ("hard", HARD))]
    with running(tmp_path / "run", [make_scorer("cost")]) as (runner, _):
        await runner.measure([candidate], samples)
        found = {key[0]: item.answer for key, item in runner.items["routed"].items()}
    assert {name: each.answered for name, each in found.items()} == {"easy": "small", "hard": "big"}
    easy, hard = found["easy"], found["hard"]
    assert easy.cost_nanos == (easy.input_tokens or 0) * 1_000 + (easy.output_tokens or 0) * 2_000
    assert hard.cost_nanos == (hard.input_tokens or 0) * 1_000_000 + (hard.output_tokens or 0) * 2_000_000
    assert measures.number_of(runner.items["routed"], "cost").sum() == pytest.approx(
        (easy.cost_nanos + hard.cost_nanos) / 1e9
    )


async def test_its_release_changes_with_its_file_and_with_either_of_the_two(project: Project) -> None:
    found = []
    for change in ("", ", sampling: {temperature: 0.5}"):
        fairlead = build(project(big=change))
        found.append(fairlead.releases["routed"])
        await fairlead.stop()
    settings = project()
    path = settings.project / "router.json"
    path.write_bytes(path.read_bytes() + b"\n")
    fairlead = build(settings)
    found.append(fairlead.releases["routed"])
    await fairlead.stop()
    assert len(set(found)) == 3


def _spoil(data: bytes, **report: Any) -> bytes:
    plain = msgspec.json.decode(data)
    plain["report"] |= report
    return msgspec.json.encode(plain)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"saving": {"value": 0.1, "low": 0.0, "high": 0.2}}, "lower bound of the saving is 0.0 %, not above zero"),
        ({"over_coin": {"value": 0.1, "low": -0.1, "high": 0.2}}, "a coin with the same quality"),
        ({"reasons": ["the small model alone keeps the quality: use it"]}, "the small model alone keeps the quality"),
    ],
)
def test_a_router_that_saves_nothing_for_certain_is_not_served(
    project: Project, change: Any, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = project()
    path = settings.project / "router.json"
    report = msgspec.json.decode(path.read_bytes())["report"]
    merged = {name: report[name] | value if isinstance(value, dict) else value for name, value in change.items()}
    path.write_bytes(_spoil(path.read_bytes(), **merged))
    [fault] = faults(load(settings.spec_path))
    assert told in fault
    assert "fairlead route learn" in fault
    with pytest.raises(RouterRefused, match=r"routed cannot route by router\.json"):
        build(settings)
    for command in (["check", str(settings.project)], ["serve", "--project", str(settings.project), "--port", "0"]):
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(command)
        assert left.value.code == 2
        assert told in " ".join(capfd.readouterr().err.split())


def test_a_file_that_is_none_or_another_is_said(project: Project, learnt: Learnt) -> None:
    settings = project()
    path = settings.project / "router.json"
    path.write_text("{}")
    assert "no router's file" in faults(load(settings.spec_path))[0]
    other = msgspec.structs.replace(learnt, router=msgspec.structs.replace(learnt.router, small="s", big="b"))
    path.write_bytes(to_file(other))
    told = faults(load(settings.spec_path))[0]
    assert "it was learnt for s and b, and `between:` names small and big" in told
    assert "--small small --big big" in told
    assert from_file(to_file(learnt)).router == learnt.router


def _edit(settings: Settings, old: str, new: str) -> None:
    text = settings.spec_path.read_text(encoding="utf-8")
    assert old in text
    settings.spec_path.write_text(text.replace(old, new, 1), encoding="utf-8")


SMALL_PRICE = "{input_usd_per_million: 1, output_usd_per_million: 2}"
BIG_PRICE = "{input_usd_per_million: 1000, output_usd_per_million: 2000}"
AGAIN = "fairlead select --candidates small,big --all && fairlead route learn --run RUN --small small --big big"
LEARN = "fairlead route learn --run 70b4895f --small small --big big --output ./router.json"


@pytest.mark.parametrize(
    ("old", "new", "told", "answering"),
    [
        ('#small", price', '#small", prompt: new.md, price', f"small has another prompt. So until .* to big.*{AGAIN}",
         "big"),
        ('#big", price', '#big", sampling: {temperature: 0.5}, price', "big has other sampling", "big"),
        ("#small", "#other", "small has another model", "big"),
        (SMALL_PRICE, SMALL_PRICE.replace("2}", "4}"),
         f"the price of small was 1 in, 2 out .* and is 1 in, 4 out .* what it saves is not known.*: {LEARN}", "small"),
        (SMALL_PRICE, SMALL_PRICE.replace("2}", "400}"), "small is still cheaper than big is not certain", "big"),
        (f", price: {BIG_PRICE}", "", "the price of big was 1000 in, 2000 out .* and is unknown", "big"),
    ],
)  # fmt: skip
async def test_a_router_whose_two_have_changed_decides_nothing(
    project: Project, old: str, new: str, told: str, answering: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = project()
    (settings.project / "new.md").write_text("Be brief.", encoding="utf-8")
    fresh = build(settings)
    assert doubts(fresh.usecase) == []
    assert not caplog.records
    await fresh.stop()
    _edit(settings, old, new)
    fairlead = build(settings)
    try:
        [doubt] = doubts(fairlead.usecase)
        assert re.search(told, doubt), doubt
        assert doubt.removeprefix("Variant routed: ") in caplog.text, "a server that starts says it"
        _, why = chosen_for(fairlead.gateway.routes, fairlead.gateway.routes["routed"], _body(EASY))
        answered = fairlead.gateway.routes["routed"].split
        assert answered is not None
        assert answered.choose(_body(EASY))[0] == answering
        assert (why == "the router is out of date") == (answering == "big")
        assert answered.choose(_body(HARD))[0] == "big"
        assert faults(fairlead.usecase) == [], "it answers all the same"
    finally:
        await fairlead.stop()


def test_a_router_that_no_longer_decides_is_another_release(project: Project) -> None:
    """By the price alone nothing else tells the two apart, and kept answers go by the release."""
    settings = project()
    found = []
    for change in (SMALL_PRICE, SMALL_PRICE.replace("2}", "400}")):
        _edit(settings, SMALL_PRICE, change)
        fairlead = build(settings)
        found.append(fairlead.releases["routed"])
        fairlead.store.close()
    assert found[0] != found[1]


def test_what_a_router_was_learnt_from_must_be_known(project: Project, learnt: Learnt) -> None:
    settings = project()
    (settings.project / "router.json").write_bytes(to_file(learnt))
    [doubt] = doubts(load(settings.spec_path))
    assert "what small was when it was learnt is not known; what big was" in doubt
    assert "everything goes to big" in doubt
    assert "fairlead route learn RESULTS --small small --big big --output ./router.json" in doubt


def test_a_changed_prompt_is_told_by_the_commands(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    settings = project()

    def command(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([*words])
        shown = capfd.readouterr()
        return int(left.value.code or 0), shown.out, " ".join(shown.err.split())

    folder, file = str(settings.project), str(settings.project / "router.json")
    show = ("route", "show", file, "--project", folder)
    assert "out of date" not in "".join(map(str, (*command("check", folder), *command(*show))))
    (settings.project / "new.md").write_text("Be brief.", encoding="utf-8")
    _edit(settings, '#small", price', '#small", prompt: new.md, price')
    told = "its router is out of date: small has another prompt"
    code, out, _ = command("check", folder)
    assert (code, f"Variant routed: {told}" in out) == (0, True)
    assert command("check", folder, "--strict")[0] == 1
    assert any(told in each for each in json.loads(command("check", folder, "--json")[1])["warnings"])
    code, out, err = command(*show)
    assert (code, "learnt from 70b4895f, with answers at 0.01 of small and 1 of big" in out) == (0, True)
    assert told in err
    plain = json.loads(command(*show, "--json")[1])
    assert plain["stale"] == {"changes": ["small has another prompt"], "shut": True, "measured": True}
    assert plain["source"]["runs"] == ["a-run-70b4895f"]
    assert told in command("doctor", "--project", folder)[1]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (", between: {small: small, big: big}", "", "the key between"),
        ("big: big", "big: small", "another one than the small"),
        ("big: big", "big: routed", "a variant that answers by itself: one of small or big"),
        ("small: small,", "small: smal,", "small"),
        ("router:./router.json", "router:router.json", "router:./router.json"),
        ("router:./router.json", "router:./other.json", "no file './other.json'"),
        ("big: big}", "big: big}, prompt: x.md", "a router has none of its own"),
        ("big: big}", "big: big}, price: {input_usd_per_million: 1, output_usd_per_million: 1}", "none of its own"),
        ('/v1#big"', '/v1#big", fallback: [routed]', "another variant that answers"),
        ('/v1#big"', '/v1#big", between: {small: small, big: big}', "the model router:./file.json"),
    ],
)
def test_a_router_that_is_declared_wrongly(project: Project, old: str, new: str, told: str) -> None:
    settings = project()
    text = settings.spec_path.read_text(encoding="utf-8")
    assert old in text
    settings.spec_path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SpecError) as refused:
        load(settings.spec_path)
    assert told in str(refused.value)


def test_it_is_as_external_and_as_dear_as_the_two_together(project: Project) -> None:
    settings = project()
    text = settings.spec_path.read_text(encoding="utf-8")
    usecase = load(settings.spec_path)
    assert price_of(usecase, usecase.variant("routed")) == (1_000_000.0, 2_000_000.0)
    outside = text.replace(
        f"{text.split('model: ')[2].split('/v1#big')[0]}/v1#big", '"https://models.example.com/v1#big'
    )
    assert "models.example.com" in outside
    settings.spec_path.write_text(outside + "policy: {residency: {external_models: false}}\n", encoding="utf-8")
    with pytest.raises(SpecError, match="'routed', a model outside your network"):
        load(settings.spec_path)
    settings.spec_path.write_text(
        outside.replace("live: routed", "live: small") + "policy: {residency: {external_models: false}}\n",
        encoding="utf-8",
    )
    usecase = load(settings.spec_path)
    assert [usecase.allows(each) for each in usecase.variants] == [True, False, False]


def test_what_it_may_cost_is_told_as_the_most(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    settings = project(budget="0.01")
    text = settings.spec_path.read_text(encoding="utf-8")
    settings.spec_path.write_text(text + "traffic: {conversations_per_day: 100}\n", encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        main(["check", str(settings.project)])
    assert not left.value.code
    said = capfd.readouterr().out
    assert "Variant big breaks the budget at the declared traffic: per_day." in said
    assert "Variant routed may break the budget at the declared traffic: per_day." in said
