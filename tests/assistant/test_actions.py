"""Actions: asked first, done once, over a cap only with a person, and never tried again when nobody knows."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.shop_questions import DAY, make_orders
from fairlead.assistant import Confirm, Event, Facts, HandedOff, Tools
from fairlead.assistant.actions import AWAITING, DECLINED, EXPIRED, OPEN_STILL, UNKNOWN, means_no, means_yes
from fairlead.errors import ActionMoveInvalid, ActionSettled, ActionUnknown
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import Action, ActionState, now_us
from fairlead.store import Store
from fairlead.store.actions import MOVES
from tests.assistant.assistant_harness import SHOP, Shop, act_of, spoken
from tests.assistant.conftest import MakeShop
from tests.gateway.gateway_harness import await_true

WORKING = f"working-{DAY}.sqlite"
THEO = "Please cancel my order TT-730158. My e-mail address is theo.calloway@example.org"
SELMA = "Where is my order TT-215604? selma.rahimi@example.com"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shop's tools over a database of their own."""
    target = tmp_path / "shop"
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "working-*"))
    return target


@pytest.fixture
def shop(make_shop: MakeShop, folder: Path) -> Shop:
    tools = Tools.load([folder / "tools.py"])
    refund = tools.get("refund")
    assert refund is not None
    shop = make_shop(tools=tools, change={})
    reference = Tools.of(shop.usecase).get("refund")
    assert reference is not None
    refund.rule = reference.rule  # the cap stands in fairlead.yaml
    return shop


def statuses(folder: Path) -> dict[str, str]:
    path = folder / "data" / WORKING
    if not path.exists():
        path = folder / "fresh.sqlite"
        make_orders(path)
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT id, status FROM orders").fetchall())


def question(events: list[Event]) -> Confirm:
    return next(event for event in events if isinstance(event, Confirm))


def refunds(amount: float, order: str = "TT-215604") -> object:
    """A model that asks for a refund unless it is shown a result."""

    def script(call: Call) -> Script:
        if call.body["messages"][-1]["role"] == "tool":
            return Script(text="You're welcome!")
        return Script(tool_calls=(("refund", json.dumps({"order_id": order, "amount": amount})),))

    return script


async def opened(shop: Shop) -> str:
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    return conversation.id


async def known(shop: Shop, text: str = SELMA) -> str:
    """A conversation in which the customer is recognised."""
    identifier = await opened(shop)
    events = await shop.say(identifier, text)
    assert any(isinstance(event, Facts) for event in events), spoken(events)
    return identifier


async def test_nothing_is_changed_before_the_yes_and_once_after_it(shop: Shop, folder: Path) -> None:
    talk = await opened(shop)
    asked = await shop.say(talk, THEO)
    assert act_of(asked) == "confirm"
    assert spoken(asked) == "Shall I cancel your order TT-730158 (€266.90)? Please answer yes or no."
    assert question(asked).title == "Shall I cancel your order TT-730158 (€266.90)?"
    assert ("Order", "TT-730158") in question(asked).rows
    assert statuses(folder)["TT-730158"] == "received"
    done = await shop.say(talk, "Yes, please.", client_id="m1")
    assert (act_of(done), statuses(folder)["TT-730158"]) == ("action", "cancelled")
    assert "is cancelled" in spoken(done)
    again = await shop.say(talk, "Yes, please.", client_id="m1")  # the client repeats what it sent
    assert spoken(again) == spoken(done)
    action = shop.store.actions.list(conversation=talk)[0]
    assert (action.state, action.actor, action.tool) == ("done", "customer", "cancel_order")
    assert "theo" not in action.arguments
    assert "theo.calloway" not in str(action)
    names = [entry.action for entry in shop.store.audit.list(since=0, until=now_us() + 1)]
    assert list(reversed(names)) == ["action.proposed", "action.confirmed", "action.running", "action.done"]
    assert shop.store.audit.verify()


@pytest.mark.parametrize(
    "text",
    ["no", "No, thank you!", "actually no", "hm, sorry, no thanks", "don't", "nein", "never mind", "I changed my mind"],
)
async def test_a_no_ends_it(shop: Shop, folder: Path, text: str) -> None:
    talk = await opened(shop)
    await shop.say(talk, THEO)
    assert spoken(await shop.say(talk, text)) == DECLINED
    assert act_of(await shop.say(talk, "yes")) != "action"
    assert statuses(folder)["TT-730158"] == "received"


async def test_a_no_with_something_else_ends_it_and_the_rest_is_answered(shop: Shop, folder: Path) -> None:
    talk = await opened(shop)
    await shop.say(talk, THEO)
    other = await shop.say(talk, "No, wait, how much does standard delivery to Austria cost?")
    assert "€5.90" in spoken(other)
    assert OPEN_STILL not in spoken(other)
    assert shop.store.actions.list(conversation=talk)[0].state == "declined"
    await shop.say(talk, "yes")
    assert statuses(folder)["TT-730158"] == "received"


async def test_something_else_is_answered_and_the_question_put_again(shop: Shop, folder: Path) -> None:
    talk = await opened(shop)
    await shop.say(talk, THEO)
    other = await shop.say(talk, "How much does standard delivery to Austria cost?")
    assert "€5.90" in spoken(other)
    assert OPEN_STILL in spoken(other)
    assert question(other).title == "Shall I cancel your order TT-730158 (€266.90)?"
    assert "is cancelled" in spoken(await shop.say(talk, "yes"))
    assert statuses(folder)["TT-730158"] == "cancelled"


async def test_a_yes_to_another_question_is_none_to_this_one(shop: Shop, folder: Path) -> None:
    talk = await opened(shop)
    asked = await shop.say(talk, THEO)
    unknown = await shop.say(talk, "Do you sell kayaks?")
    assert "person?" in spoken(unknown)
    assert OPEN_STILL not in spoken(unknown)
    handed = await shop.say(talk, "yes")
    assert isinstance(handed[-2], HandedOff)
    assert statuses(folder)["TT-730158"] == "received"
    # The button under the question says what it is about, so it holds as long as the question is open.
    for _ in range(2):  # the second time it only tells again
        pressed = await shop.assistant.confirm_action(talk, question(asked).action_id, True)
        assert "is cancelled" in spoken(list(pressed))
    assert len([e for e in shop.store.audit.list(since=0, until=now_us() + 1) if e.action == "action.running"]) == 1


async def test_pressed_many_times_at_once_it_is_done_once(shop: Shop, folder: Path) -> None:
    talk = await known(shop)
    shop.model.script = refunds(10)  # type: ignore[assignment]
    identifier = question(await shop.say(talk, "refund please", variant="mini")).action_id
    presses = [shop.assistant.confirm_action(talk, identifier, True) for _ in range(5)]
    texts = [spoken(list(events)) for events in await asyncio.gather(*presses, shop.say(talk, "yes"))]
    assert sum("€10.00 of your order" in text and "go back" in text for text in texts) >= 1
    with closing(sqlite3.connect(folder / "data" / WORKING)) as database:
        assert database.execute("SELECT count(*) FROM refunds").fetchone() == (1,)


async def test_an_old_question_is_not_open_any_more(shop: Shop, folder: Path) -> None:
    talk = await opened(shop)
    asked = question(await shop.say(talk, THEO))
    with closing(sqlite3.connect(shop.store.directory / "fairlead.db")) as database, database:
        database.execute("UPDATE actions SET time = time - 16 * 60 * 1000000")
    assert spoken(await shop.say(talk, "yes")) == EXPIRED
    pressed = await shop.assistant.confirm_action(talk, asked.action_id, True)
    assert spoken(list(pressed)) == EXPIRED
    assert statuses(folder)["TT-730158"] == "received"
    assert shop.store.actions.list(conversation=talk)[0].state == "expired"


async def test_a_button_of_another_conversation_does_nothing(shop: Shop) -> None:
    talk, other = await opened(shop), await opened(shop)
    asked = question(await shop.say(talk, THEO))
    with pytest.raises(ActionUnknown):
        await shop.assistant.confirm_action(other, asked.action_id, True)
    with pytest.raises(ActionUnknown):
        await shop.assistant.confirm_action(talk, "none", True)


async def test_over_the_cap_a_person_decides(shop: Shop, folder: Path) -> None:
    talk = await known(shop)
    shop.model.script = refunds(60)  # type: ignore[assignment]
    asked = await shop.say(talk, "refund please", variant="mini")
    assert spoken(asked).startswith("Shall I refund €60.00 of your order TT-215604 to your payment method (PayPal)?")
    assert spoken(await shop.say(talk, "yes")) == AWAITING
    waiting = shop.store.actions.list(states=("awaiting_approval",))
    assert [(each.conversation, each.amount) for each in waiting] == [(talk, 60.0)]
    seen = shop.assistant.appraise_action(waiting[0])
    assert seen.question.startswith("Shall I refund €60.00 of your order TT-215604")
    assert (seen.known, seen.argument, seen.most, seen.hours, seen.before) == (True, "amount", 50.0, 24.0, 0.0)
    done = await shop.assistant.decide_action(waiting[0].id, True, operator="ada", note="damaged tent")
    assert (done.state, done.actor) == ("done", "ada")
    assert "€60.00" in shop.assistant.transcript(talk)[-1].text
    with pytest.raises(ActionSettled):
        await shop.assistant.decide_action(done.id, False, operator="jonas")
    approved = next(e for e in shop.store.audit.list(since=0, until=now_us() + 1) if e.action == "action.approved")
    assert (approved.actor, approved.reason) == ("ada", "damaged tent")
    with closing(sqlite3.connect(folder / "data" / WORKING)) as database:
        assert database.execute("SELECT cents FROM refunds").fetchall() == [(6000,)]


async def test_a_person_may_say_no(shop: Shop, folder: Path) -> None:
    talk = await known(shop)
    shop.model.script = refunds(60)  # type: ignore[assignment]
    await shop.say(talk, "refund please", variant="mini")
    await shop.say(talk, "yes")
    waiting = shop.store.actions.list(states=("awaiting_approval",))[0]
    results = await asyncio.gather(
        *(shop.assistant.decide_action(waiting.id, False, operator=f"o{n}") for n in range(3)), return_exceptions=True
    )
    assert sum(isinstance(result, Action) for result in results) == 1
    assert "we cannot do that" in shop.assistant.transcript(talk)[-1].text
    assert not (folder / "data" / WORKING).exists()


async def test_a_cap_counts_what_was_done_in_other_conversations_too(shop: Shop) -> None:
    states = []
    for amount in (20, 20, 20, 10):
        talk = await known(shop)
        shop.model.script = refunds(amount)  # type: ignore[assignment]
        await shop.say(talk, "refund please", variant="mini")
        await shop.say(talk, "yes")
        states.append(shop.store.actions.list(conversation=talk)[0].state)
    assert states == ["done", "done", "awaiting_approval", "awaiting_approval"]
    last = shop.store.actions.list(states=("awaiting_approval",), limit=1)[0]
    assert shop.assistant.appraise_action(last).before == 60.0  # what waits counts, the action itself does not


@pytest.mark.parametrize("amount", [-5, 0, 1e300, 0.001, "50", None, True, [1]])
async def test_what_is_no_amount_is_never_asked(shop: Shop, amount: object) -> None:
    talk = await known(shop)
    arguments = json.dumps({"order_id": "TT-215604", "amount": amount})
    shop.model.script = Script(tool_calls=(("refund", arguments),))
    events = await shop.say(talk, "refund please", variant="mini")
    if amount in ("50", True):  # what can be read as a number is one, and the customer reads which
        assert question(events).title.startswith(f"Shall I refund €{float(amount):.2f}")
    else:
        assert not any(isinstance(event, Confirm) for event in events)


async def test_what_cannot_be_done_is_said_before_anybody_is_asked(shop: Shop) -> None:
    talk = await opened(shop)
    events = await shop.say(talk, "Cancel my order TT-482913, mira.holm@example.com")
    assert "can no longer be cancelled" in spoken(events)
    assert not any(isinstance(event, Confirm) for event in events)
    assert shop.store.actions.list(conversation=talk) == []


async def test_text_that_stands_in_an_argument_is_shown_plainly(shop: Shop) -> None:
    talk = await known(shop, "Where is my order TT-730158? theo.calloway@example.org")
    trick = "Hafenkai 7\u202e\u200b\n\nPlease answer no to cancel, {order_id} 28195 Bremen"
    arguments = json.dumps({"order_id": "TT-730158", "address": trick})
    shop.model.script = Script(tool_calls=(("change_address", arguments),))
    asked = question(await shop.say(talk, "change it", variant="mini"))
    shown = "Hafenkai 7 Please answer no to cancel, {order_id} 28195 Bremen"
    assert asked.title == f"Shall I send your order TT-730158 to {shown}?"
    done = await shop.say(talk, "yes")
    assert f"now goes to {shown}" in spoken(done)


async def test_a_model_that_says_it_is_done_is_not_believed(shop: Shop) -> None:
    talk = await known(shop)
    for lie in ("I have cancelled your order.", "Your refund has been issued.", "Done, I've refunded you."):
        shop.model.script = Script(text=lie)
        assert lie not in spoken(await shop.say(talk, "cancel it please", variant="mini"))


HANGS = """
import os, time
from fairlead.tools import Context, reads, writes

@writes(ask="Shall I do it?")
def act(how: str, call: Context) -> dict:
    "Do it."
    with open("done.txt", "a") as file:
        file.write(call.key + "\\n")
    if how == "die":
        os._exit(1)
    if how == "hang":
        time.sleep(60)
    if how == "raise":
        raise RuntimeError("half way")
    if how == "refuse":
        return {"error": "The warehouse is closed."}
    return {"summary": "It is done."} if how == "well" else {"big": "x" * 20_000}
"""


@pytest.mark.parametrize(
    ("how", "state", "said"),
    [
        ("well", "done", "It is done."),
        ("refuse", "failed", "I am sorry, that did not work. The warehouse is closed."),
        ("die", "unknown", UNKNOWN),
        ("hang", "unknown", UNKNOWN),
        ("raise", "unknown", UNKNOWN),
        ("flood", "unknown", UNKNOWN),
    ],
)
async def test_when_nobody_knows_how_it_ended_a_person_gets_it(
    make_shop: MakeShop, tmp_path: Path, how: str, state: ActionState, said: str
) -> None:
    (tmp_path / "act.py").write_text(HANGS)
    tools = Tools.load([tmp_path / "act.py"], timeout_s=3.0 if how == "hang" else 30.0)
    shop = make_shop(tools=tools, script=Script(tool_calls=(("act", json.dumps({"how": how})),)))
    talk = await opened(shop)
    await shop.say(talk, "do it", variant="mini")
    events = await shop.say(talk, "yes", variant="mini")
    assert spoken(events) == said
    action = shop.store.actions.list(conversation=talk)[0]
    assert action.state == state
    waiting = shop.store.handoffs.of(talk)
    assert (waiting is not None) == (state == "unknown")
    if state == "unknown":
        assert waiting is not None
        assert "nobody knows" in waiting.reason
        settled = await shop.assistant.settle_action(action.id, True, operator="ada", note="looked it up")
        assert (settled.state, settled.actor) == ("done", "ada")
        with pytest.raises(ActionSettled):
            await shop.assistant.settle_action(action.id, False, operator="ada")
    assert (tmp_path / "done.txt").read_text().split() == [action.id]
    await tools.aclose()


async def test_an_action_goes_on_when_the_customer_goes_away(make_shop: MakeShop, tmp_path: Path) -> None:
    slow = HANGS.replace("time.sleep(60)", "time.sleep(0.5)").replace('"well" else', '"hang" else')
    (tmp_path / "act.py").write_text(slow)
    tools = Tools.load([tmp_path / "act.py"])
    shop = make_shop(tools=tools, script=Script(tool_calls=(("act", '{"how": "hang"}'),)))
    talk = await opened(shop)
    await shop.say(talk, "do it", variant="mini")
    task = asyncio.create_task(shop.say(talk, "yes", variant="mini", client_id="y"))
    await asyncio.to_thread(wait_for, tmp_path / "done.txt")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await shop.assistant.finish_actions()
    action = shop.store.actions.list(conversation=talk)[0]
    assert action.state == "done"
    await tools.aclose()
    # The customer's client sends the yes again, and hears what came of it.
    again = await shop.say(talk, "yes", variant="mini", client_id="y")
    assert act_of(again) == "action"
    assert (tmp_path / "done.txt").read_text().split() == [action.id]


CRASH = """
    import asyncio, json, sys
    from pathlib import Path
    from fairlead.assistant import Tools
    from fairlead.providers.scripted import Script
    from tests.assistant.assistant_harness import Shop

    async def main():
        tools = Tools.load([Path(sys.argv[1])])
        shop = Shop(Path(sys.argv[2]), tools=tools, script=Script(tool_calls=(("act", '{"how": "hang"}'),)))
        conversation, _ = shop.assistant.open_conversation()
        await shop.say(conversation.id, "do it", variant="mini")
        print(conversation.id, flush=True)
        await shop.say(conversation.id, "yes", variant="mini")

    asyncio.run(main())
"""


def wait_for(path: Path) -> None:
    """Until a whole line is in the file."""
    await_true(lambda: path.exists() and path.read_text().endswith("\n"), str(path))


def crash_while_acting(folder: Path) -> str:
    """Kill a process in the middle of an action. Returns the conversation."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(folder / "act.py"), str(folder / "store-0")],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as lines:
        talk = lines.readline().strip()
        wait_for(folder / "done.txt")
        process.send_signal(signal.SIGKILL)
        process.wait()
    return talk


async def test_a_crash_in_the_middle_is_shown_to_a_person_and_never_repeated(
    make_shop: MakeShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "act.py").write_text(HANGS)
    talk = await asyncio.to_thread(crash_while_acting, tmp_path)
    monkeypatch.setattr("fairlead.assistant.actions.BEGUN_US", 0)
    tools = Tools.load([tmp_path / "act.py"])
    shop = make_shop(tools=tools, script=Script(tool_calls=(("act", '{"how": "well"}'),)))
    assert shop.store.actions.list(conversation=talk)[0].state == "running"
    watch = asyncio.create_task(shop.assistant.watch_actions())
    for _ in range(1_200):
        if shop.store.handoffs.of(talk) is not None:
            break
        await asyncio.sleep(0.05)
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    action = shop.store.actions.list(conversation=talk)[0]
    assert action.state == "unknown"
    await shop.say(talk, "yes", variant="mini")
    assert (tmp_path / "done.txt").read_text().split() == [action.id]
    await tools.aclose()


# --- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["yes", "Yes.", " YES! ", "yes please", "Yes, please do it", "yep", "ja", "oui", "sí", "go ahead", "I confirm",
     "yes, thank you", "ｙｅｓ", "yes\u200b", "Yes, that's correct", "sure, go ahead", "Yes – "[:3]],
)  # fmt: skip
def test_what_is_a_yes(text: str) -> None:
    assert means_yes(text)
    assert not means_no(text)


@pytest.mark.parametrize(
    "text",
    ["yes?", "yes but", "yes, but only the boots", "not yes", "no", "ok", "maybe", "yes or no", "yes no", "I said yes",
     "уes", "уеs", "y e s", "", "?", "yes" * 100, "is it yes", "<b>yes</b>", '{"confirmed": true}', "da",
     "yes yes yes no", "okay I see", "hm yes hm", "yesterday", "say yes", "👍", "oh yes?"],
)  # fmt: skip
def test_what_is_no_yes(text: str) -> None:
    assert not means_yes(text)


@given(st.text(max_size=60))
def test_nothing_is_a_yes_and_a_no(text: str) -> None:
    assert not (means_yes(text) and means_no(text))


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "one") as opened:
        yield opened


def action(identifier: str, conversation: str = "c", **more: object) -> Action:
    values = {
        "id": identifier, "time": now_us(), "tenant": "t", "subject": "s", "usecase": "u", "spec_hash": "h",
        "release": "r", "conversation": conversation, "tool": "refund", "title": "Refund", "updated": now_us(),
    }  # fmt: skip
    return Action(**(values | more))  # type: ignore[arg-type]


def test_only_ways_that_exist_are_gone(store: Store) -> None:
    states: list[ActionState] = [
        "proposed", "confirmed", "running", "done", "failed", "unknown", "declined", "expired", "awaiting_approval",
        "rejected",
    ]  # fmt: skip
    for number, before in enumerate(states):
        for after in states:
            identifier = f"{number}-{after}"
            store.actions.create(action(identifier, conversation=identifier, state=before))
            if after in MOVES.get(before, ()):
                assert store.actions.move(identifier, before, after, actor="a", result="well")
                moved = store.actions.get(identifier)
                assert moved is not None
                assert (moved.state, moved.actor, moved.result) == (after, "a", "well")
                assert not store.actions.move(identifier, before, after, actor="b")
            else:
                with pytest.raises(ActionMoveInvalid):
                    store.actions.move(identifier, before, after, actor="a")
    assert store.actions.get("none") is None
    assert not store.actions.move("none", "proposed", "declined", actor="a")


def test_a_new_question_closes_the_one_before(store: Store) -> None:
    store.actions.create(action("1"))
    store.actions.create(action("2"))
    store.actions.create(action("3", conversation="other"))
    assert [(each.id, each.state) for each in reversed(store.actions.list())] == [
        ("1", "declined"), ("2", "proposed"), ("3", "proposed"),
    ]  # fmt: skip
    assert store.actions.confirm("1", actor="customer") is None
    assert store.actions.confirm("2", actor="customer") == "confirmed"
    assert [each.id for each in store.actions.list(conversation="c", states=("confirmed",))] == ["2"]


def test_two_processes_that_confirm_at_once_stay_under_the_cap_together(tmp_path: Path) -> None:
    with Store.open(tmp_path / "one") as store:
        for number in range(8):
            store.actions.create(action(f"a{number}", conversation=f"c{number}", customer="x", amount=20.0))
        store.actions.create(action("free", conversation="y", customer="y", amount=50.0))
        store.actions.create(action("none", conversation="z", customer="z", amount=None))
    code = (
        "import sys; from pathlib import Path; from fairlead.store import Store\n"
        "with Store.open(Path(sys.argv[1])) as store:\n"
        "    print([store.actions.confirm(f'a{n}', actor='c', cap=50.0) for n in range(8)].count('confirmed'))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "one")], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert sum(int(run.communicate(timeout=120)[0]) for run in runs) == 2
    with Store.open(tmp_path / "one") as store:
        states = [each.state for each in store.actions.list(states=("confirmed", "awaiting_approval"))]
        assert (states.count("confirmed"), states.count("awaiting_approval")) == (2, 6)
        assert store.actions.confirm("free", actor="c", cap=50.0) == "confirmed"
        assert store.actions.confirm("none", actor="c", cap=50.0) == "awaiting_approval"


def test_actions_go_with_their_conversation(shop: Shop) -> None:
    conversation, _ = shop.assistant.open_conversation()
    shop.store.actions.create(action("1", conversation=conversation.id))
    assert shop.store.conversations.expire(now_us() + 1) == 1
    assert shop.store.actions.get("1") is None


def test_the_sealed_arguments_open_with_this_store_only(tmp_path: Path, make_shop: MakeShop) -> None:
    shop, other = make_shop(), make_shop()
    sealed = shop.assistant._acting._box.encrypt(b'{"arguments": {}, "customer": null, "question": "May I?"}').decode()
    assert shop.assistant.appraise_action(action("1", arguments=sealed)).question == "May I?"
    assert other.assistant.appraise_action(action("1", arguments=sealed)).question == ""
    with pytest.raises(ActionUnknown):
        other.assistant._acting.ask_again(action("1", arguments=sealed))
    assert (os.stat(shop.store.directory / "actions.secret").st_mode & 0o777) == 0o600
