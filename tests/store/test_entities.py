"""Conversations, feedback, hand-offs, releases, keys, audit, objects, counters: on real SQLite."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import (
    KeyAmbiguous,
    KeyUnknown,
    ObjectDamaged,
    RecordUnknown,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreNewer,
)
from fairlead.records import (
    AuditEntry,
    Conversation,
    Feedback,
    Handoff,
    Message,
    Release,
    Source,
    new_id,
    now_us,
)
from fairlead.store import Store
from fairlead.store.mend import mend
from tests.store.store_helpers import COLUMNS, DAY, FOREVER, make_inference, run_script


def _conversation(**values: object) -> Conversation:
    given = {"id": new_id(), "time": now_us(), **COLUMNS}
    return Conversation(**{**given, **values})


def _message(conversation: str, text: str, **values: object) -> Message:
    given = {"id": new_id(), "time": now_us(), "conversation": conversation, "role": "user", "text": text, **COLUMNS}
    return Message(**{**given, **values})


def _feedback(target: str, **values: object) -> Feedback:
    given = {"id": new_id(), "time": now_us(), "target_kind": "message", "target": target, "kind": "thumb", **COLUMNS}
    return Feedback(**{**given, **values})


def _entry(action: str, **values: object) -> AuditEntry:
    given = {"id": new_id(), "time": now_us(), "actor": "ada", "action": action, "resource": "key", **COLUMNS}
    return AuditEntry(**{**given, **values})


def test_a_conversation_comes_back_as_it_was(store: Store) -> None:
    conversation = store.conversations.create(_conversation(title="Lieferung", language="de", secret_hash="s"))
    source = Source(id="faq#1", title="FAQ", location="faq.md#delivery", text="Two days.")
    said = [
        store.conversations.add(_message(conversation.id, "Wann kommt es?")),
        store.conversations.add(
            _message(conversation.id, "Two days.", role="assistant", sources=(source,), facts={"order": ["1", None]})
        ),
    ]
    assert store.conversations.get(conversation.id) == conversation
    assert store.conversations.messages(conversation.id) == said
    assert store.conversations.message(said[1].id) == said[1]
    assert store.conversations.get("nothing") is None
    changed = store.conversations.update(conversation.id, state="waiting", turns=2, updated=now_us())
    assert (changed.state, changed.turns, changed.title) == ("waiting", 2, "Lieferung")
    assert store.conversations.get(conversation.id) == changed
    with pytest.raises(RecordUnknown, match="no conversation 'nothing'"):
        store.conversations.update("nothing", title="x")


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(codec=None), max_size=200))
def test_any_text_can_be_kept(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Store.open(tmp_path_factory.getbasetemp() / "any-text") as store:
        message = _message("c" + new_id(), text, facts={text: [text]})
        store.conversations.add(message)
        kept = store.conversations.messages(message.conversation)[0]
        expected = text.encode("utf-8", "replace").decode()
        assert (kept.text, kept.facts) == (expected, {expected: [expected]})


def test_listing_is_bounded_in_time_and_goes_on_where_it_stopped(store: Store) -> None:
    start = now_us() - DAY
    made = [
        store.conversations.create(
            _conversation(time=start + number // 2, tenant="a" if number % 2 else "b", title=f"talk {number}")
        )
        for number in range(20)
    ]
    seen: list[Conversation] = []
    while page := store.conversations.list(since=start, until=start + 9, limit=4, before=seen[-1].id if seen else None):
        seen += page
    expected = sorted(made[:18], key=lambda one: (one.time, one.id), reverse=True)
    assert seen == expected
    assert store.conversations.count(since=start, until=start + 9) == 18
    assert {one.tenant for one in store.conversations.list(since=start, until=FOREVER, tenant="a")} == {"a"}
    assert store.conversations.list(since=start, until=start, limit=5) == []


def test_search_is_literal(store: Store) -> None:
    first = store.conversations.create(_conversation(title="100% off_sale"))
    second = store.conversations.create(_conversation(title="100 coffee sale"))
    store.conversations.add(_message(second.id, r"path \d and 'quote' \"; DROP TABLE conversations; --"))

    def found(text: str) -> list[str]:
        return [one.id for one in store.conversations.list(since=0, until=FOREVER, search=text)]

    assert found("100%") == [first.id]
    assert found("off_") == [first.id]
    assert found("\\d") == [second.id]
    assert found("DROP TABLE conversations; --") == [second.id]
    assert len(found("SALE")) == 2
    assert store.conversations.count(since=0, until=FOREVER, search="sale") == 2


def test_the_newest_feedback_of_an_author_wins(store: Store) -> None:
    conversation = store.conversations.create(_conversation())
    message = store.conversations.add(_message(conversation.id, "answer", inference="i1"))
    store.feedback.add(_feedback(message.id, value=1.0, author="x"))
    store.feedback.add(_feedback(message.id, value=1.0, author="y"))
    last = store.feedback.add(_feedback(message.id, value=-1.0, author="x"))
    comment = store.feedback.add(_feedback(message.id, kind="comment", text="wrong price", author="x"))
    overall = store.feedback.add(_feedback(conversation.id, target_kind="conversation", kind="csat", value=4.0))
    traced = store.feedback.add(_feedback("i1", target_kind="inference", kind="demonstration", text="better"))
    assert [(one.author, one.value) for one in store.feedback.of(message.id) if one.kind == "thumb"] == [
        ("y", 1.0),
        ("x", -1.0),
    ]
    everything = store.feedback.of_conversation(conversation.id)
    assert {one.id for one in everything} >= {last.id, comment.id, overall.id, traced.id}
    assert len(everything) == 5
    assert len(store.feedback.list(0, FOREVER)) == 6
    assert store.feedback.list(0, FOREVER, 1) == [traced]


def test_people_wait_in_order(store: Store) -> None:
    first = store.handoffs.open(
        Handoff(id=new_id(), time=now_us(), conversation="c1", reason="asked", summary="s", **COLUMNS)
    )
    second = store.handoffs.open(Handoff(id=new_id(), time=now_us() + 1, conversation="c2", **COLUMNS))
    assert store.handoffs.waiting() == [first, second]
    taken, mine, since_now = store.handoffs.take(first.id, operator="Ada", key="k1", lease=1 << 60)
    assert (mine, since_now, taken.state, taken.operator) == (True, True, "taken", "Ada")
    assert store.handoffs.take(first.id, operator="Ada", key="k1", lease=1 << 60) == (taken, True, False)
    assert store.handoffs.take(first.id, operator="Jonas", key="k2", lease=1 << 60) == (taken, False, False)
    assert store.handoffs.waiting() == [second]
    assert store.handoffs.of("c1") == taken
    assert store.handoffs.of("c3") is None
    with pytest.raises(RecordUnknown):
        store.handoffs.take("nobody", operator="Ada", key="k1", lease=1)


def test_one_release_is_live(store: Store) -> None:
    one, two = (
        Release(id=name, time=now_us(), variant="v", content="{}", **{**COLUMNS, "release": name})
        for name in ("r1", "r2")
    )
    for _ in range(2):
        store.releases.put(one)
        store.releases.put(two)
    assert store.releases.list() == [one, two]
    assert store.releases.live("shop") is None
    store.releases.set_live("shop", "r1")
    live = store.releases.set_live("shop", "r2")
    assert store.releases.live("shop") == live
    retired = store.releases.get("r1")
    assert retired is not None
    assert retired.state == "retired"
    store.releases.put(one)
    assert store.releases.get("r1") == retired, "putting a known release again changes nothing"
    with pytest.raises(RecordUnknown):
        store.releases.set_live("shop", "r3")
    assert store.releases.live("shop") == live


def test_use_cases_are_kept_by_hash(store: Store) -> None:
    store.usecases.put("shop", "h1", '{"a":1}')
    store.usecases.put("shop", "h1", '{"a":1}')
    store.usecases.put("shop", "h2", '{"a":2}')
    kept = store.usecases.get("h1")
    assert kept is not None
    assert (kept.name, kept.content) == ("shop", '{"a":1}')
    assert [one.spec_hash for one in store.usecases.list()] == ["h1", "h2"]
    assert store.usecases.get("h3") is None


def test_a_key_is_shown_once_and_kept_as_a_hash(store: Store, tmp_path: Path) -> None:
    key, secret = store.keys.create("ci", ["chat", "admin"], tenant="acme")
    assert secret.startswith(key.prefix)
    assert len(secret) > 40
    assert store.keys.verify(secret) == key
    assert store.keys.verify(secret + "x") is None
    assert store.keys.verify("\ud800") is None
    store.close()
    assert all(secret.encode() not in path.read_bytes() for path in (tmp_path / "data").glob("fairlead.db*"))


def test_a_revoked_or_expired_key_opens_nothing(store: Store) -> None:
    key, secret = store.keys.create("a", ["chat"])
    _, old = store.keys.create("b", ["chat"], expires=now_us() - 1)
    later, new = store.keys.create("c", ["chat"], expires=now_us() + DAY)
    assert store.keys.verify(old) is None
    assert store.keys.verify(new) == later
    revoked = store.keys.revoke(key.prefix)
    assert revoked.revoked is not None
    assert store.keys.revoke(key.id) == revoked, "the first time counts"
    assert store.keys.verify(secret) is None
    assert store.keys.active() == [later]
    assert len(store.keys.list()) == 3
    with pytest.raises(KeyUnknown, match="fl-nothing"):
        store.keys.revoke("fl-nothing")


def test_an_ambiguous_prefix_revokes_nothing(store: Store, tmp_path: Path) -> None:
    first, _ = store.keys.create("a", [])
    second, _ = store.keys.create("b", [])
    with sqlite3.connect(tmp_path / "data" / "fairlead.db") as other:
        other.execute("UPDATE keys SET prefix = ?", (first.prefix,))
    other.close()
    with pytest.raises(KeyAmbiguous, match=second.id):
        store.keys.revoke(first.prefix)
    assert len(store.keys.active()) == 2


def test_another_process_sees_a_revocation(store: Store, tmp_path: Path) -> None:
    key, _ = store.keys.create("a", ["chat"])
    before = store.keys.version()
    store.conversations.create(_conversation())
    assert store.keys.version() == before, "other changes do not count"
    script = "import sys; from pathlib import Path; from fairlead.store import Store\n"
    script += "with Store.open(Path(sys.argv[1])) as s: s.keys.revoke(sys.argv[2])"
    with run_script(script, tmp_path / "data", key.id) as process:
        assert process.wait(30) == 0, process.communicate()
    assert store.keys.version() != before
    assert store.keys.active() == []


def test_the_audit_log_shows_any_change(store: Store, tmp_path: Path) -> None:
    assert store.audit.verify()
    entries = [store.audit.append(_entry(f"action {number}", detail={"n": number, "é": None})) for number in range(5)]
    assert store.audit.verify()
    assert store.audit.list(since=0, until=FOREVER) == entries[::-1]
    assert store.audit.list(since=0, until=FOREVER, limit=2, before=entries[3].id) == [entries[2], entries[1]]
    assert store.audit.head()[0] == 5
    changes = (
        "UPDATE audit SET actor = 'eve' WHERE sequence = 2",
        "UPDATE audit SET detail = '{}' WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 3",
        "DELETE FROM audit WHERE sequence = 5",
        "DELETE FROM audit",
        "UPDATE audit SET sequence = 9 WHERE sequence = 1",
    )
    for change in changes:
        other = sqlite3.connect(tmp_path / "data" / "fairlead.db")
        rows = other.execute("SELECT * FROM audit").fetchall()
        other.execute(change)
        other.commit()
        assert not store.audit.verify(), change
        other.execute("DELETE FROM audit")
        other.executemany(f"INSERT INTO audit VALUES ({', '.join('?' * len(rows[0]))})", rows)
        other.commit()
        other.close()
        assert store.audit.verify()


def test_objects_are_found_by_their_content(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(3_000_000))
    first, second = store.objects.put(file), store.objects.put(b"")
    assert store.objects.put(file.read_bytes()) == first
    assert store.objects.get(first).read_bytes() == file.read_bytes()
    assert store.objects.get(second).read_bytes() == b""
    assert store.objects.list() == sorted([first, second])
    path = store.objects.get(first)
    path.write_bytes(b"something else")
    with pytest.raises(ObjectDamaged, match=str(path)):
        store.objects.get(first)
    assert store.objects.put(file) == first, "putting it again mends it"
    assert store.objects.get(first).read_bytes() == file.read_bytes()
    assert store.objects.delete(first)
    assert not store.objects.delete(first)
    for name in (first, "../../fairlead.db", "", "A" * 64, "0" * 63 + "/"):
        with pytest.raises(RecordUnknown):
            store.objects.get(name)


def test_counters_forget(store: Store) -> None:
    counters = store.counters
    assert counters.add("a", 2, ttl=60) == 2
    assert counters.add("a", 3, ttl=60) == 5
    assert counters.get("a") == 5
    assert counters.add("b", 1, ttl=0) == 1
    assert counters.get("b") == 0
    assert counters.get("never") == 0
    for number in range(20_000):
        counters.add(f"short {number}", 1, ttl=0)
    assert len(counters._values) < 10_000


def test_threads_may_write_at_once(store: Store) -> None:
    conversation = store.conversations.create(_conversation())

    def work(name: int) -> None:
        for number in range(25):
            store.conversations.add(_message(conversation.id, f"{name}-{number}"))
            store.audit.append(_entry(f"{name}-{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.conversations.messages(conversation.id)) == 100
    assert store.audit.head()[0] == 100
    assert store.audit.verify()


def test_expired_conversations_leave_no_bytes(store: Store, tmp_path: Path) -> None:
    now = now_us()
    marks = {"old": "GEHEIM" + "q" * 30, "new": "BLEIBT" + "w" * 30}
    for number in range(300):
        age, mark = (40 * DAY, marks["old"]) if number % 2 else (DAY, marks["new"])
        opened = now - age
        conversation = store.conversations.create(_conversation(time=opened, updated=opened, title=f"{mark} t"))
        for turn in range(3):
            text = f"{mark} {number} {turn} " + "z" * (number * 37 % 9000)
            message = store.conversations.add(_message(conversation.id, text, time=opened, inference=f"i{number}"))
            store.feedback.add(_feedback(message.id, kind="comment", text=f"{mark} comment"))
        store.feedback.add(_feedback(f"i{number}", target_kind="inference", kind="comment", text=f"{mark} traced"))
        store.handoffs.open(Handoff(id=new_id(), time=now, conversation=conversation.id, summary=mark, **COLUMNS))
        store.conversations.update(conversation.id, updated=conversation.updated)
        if number % 7 == 0:
            store.conversations.update(conversation.id, title=f"{mark} changed " + "y" * number)

    def count(mark: str) -> int:
        return sum(path.read_bytes().count(mark.encode()) for path in (tmp_path / "data").glob("fairlead.db*"))

    assert count(marks["old"]) > 1000
    assert store.conversations.expire(now - 30 * DAY) == 150
    assert count(marks["old"]) == 0
    assert count(marks["new"]) >= 150 * 9
    assert store.conversations.count(since=0, until=FOREVER) == 150
    assert len(store.handoffs.waiting()) == 150
    assert store.conversations.expire(now - 30 * DAY) == 0


def test_a_deleted_value_is_overwritten_even_without_expiry(store: Store, tmp_path: Path) -> None:
    conversation = store.conversations.create(_conversation(title="GEHEIM-TITEL"))
    store.conversations.update(conversation.id, title="-")
    store._database.truncate_log()
    assert b"GEHEIM-TITEL" not in (tmp_path / "data" / "fairlead.db").read_bytes()


def test_two_processes_share_a_store(store: Store, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fairlead.store import Store
from fairlead.store.mend import mend
from tests.store.store_helpers import COLUMNS
from fairlead.records import AuditEntry, new_id, now_us
with Store.open(Path(sys.argv[1])) as store:
    for number in range(60):
        store.audit.append(AuditEntry(id=new_id(), time=now_us(), actor=sys.argv[2], action=str(number),
                                      resource="x", **COLUMNS))
"""
    processes = [run_script(script, tmp_path / "data", name) for name in ("one", "two")]
    for number in range(60):
        store.audit.append(_entry(str(number)))
    for process in processes:
        with process:
            assert process.wait(60) == 0, process.communicate()
    assert store.audit.head()[0] == 180
    assert store.audit.verify()


def test_a_newer_store_is_left_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    other = sqlite3.connect(tmp_path / "fairlead.db")
    other.execute("UPDATE alembic_version SET version_num = '9999'")
    other.commit()
    other.close()
    before = (tmp_path / "fairlead.db").read_bytes()
    with pytest.raises(StoreNewer, match=r"schema 9999.*pip install"):
        Store.open(tmp_path)
    assert (tmp_path / "fairlead.db").read_bytes() == before


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    for path in (tmp_path / "data", tmp_path / "data" / "below" / "it"):
        with pytest.raises(StoreError) as caught:
            Store.open(path)
        assert f"{tmp_path / 'data'} is a file, not a folder" in str(caught.value)
        assert "Errno" not in str(caught.value)


@pytest.mark.parametrize("damage", ["header", "nonsense"])
def test_a_damaged_database_is_named_and_nothing_is_lost(tmp_path: Path, damage: str) -> None:
    with Store.open(tmp_path) as store:
        store.usecases.put("shop", "h1", "{}")
        kept = make_inference()
        store.traces.append(kept)
    path = tmp_path / "fairlead.db"
    content = bytearray(path.read_bytes())
    content[:16] = b"X" * 16
    if damage == "nonsense":
        content = bytearray(os.urandom(len(content)))
    path.write_bytes(content)
    with pytest.raises(StoreDamaged) as caught:
        Store.open(tmp_path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(f"{sys.executable} -m fairlead.store mend {tmp_path}")
    assert path.read_bytes() == content
    with run_script(
        "import sys, runpy; sys.argv[0] = 'x'; runpy.run_module('fairlead.store', run_name='__main__')",
        "mend",
        tmp_path,
    ) as process:
        output, problems = process.communicate(timeout=120)
    assert process.returncode == 0, problems
    assert "moved to" in output
    if damage == "nonsense":
        assert "all are gone: API keys, conversations, messages" in output
        assert "fairlead keys create" in output
    aside = next(tmp_path.glob("damaged-*"))
    assert (aside / "fairlead.db").read_bytes() == content
    with Store.open(tmp_path) as store:
        assert store.traces.get(kept.id) == kept


def test_damaged_pages_cost_only_what_was_on_them(tmp_path: Path) -> None:
    texts = {}
    with Store.open(tmp_path, segment_rows=50) as store:
        for number in range(400):
            message = store.conversations.add(_message("c", f"{number} " + "x" * 1500))
            texts[message.id] = message.text
        store.audit.append(_entry("made"))
        key, secret = store.keys.create("k", ["chat"])
        traced = [make_inference() for _ in range(120)]
        for record in traced:
            store.traces.append(record)
        store.traces.roll()
    path = tmp_path / "fairlead.db"
    content = bytearray(path.read_bytes())
    where = content.find(b"200 xxxxx")
    page = where - where % 4096
    content[page : page + 2 * 4096] = os.urandom(2 * 4096)
    path.write_bytes(content)
    with Store.open(tmp_path) as store:
        assert store.check() != []
        with pytest.raises(StoreDamaged):
            store.conversations.messages("c")
    report = mend(tmp_path)
    assert not any("are gone" in line for line in report)
    with Store.open(tmp_path) as store:
        assert store.check() == []
        left = store.conversations.messages("c")
        assert 380 <= len(left) < 400, report
        assert all(texts[one.id] == one.text for one in left)
        assert store.keys.verify(secret) == key
        assert store.audit.verify()
        assert store.traces.query(since=0, until=FOREVER, limit=200, order="asc") == traced


def test_segments_survive_the_loss_of_the_database(tmp_path: Path) -> None:
    days = [make_inference(time=now_us() - number * DAY // 3) for number in range(30)]
    with Store.open(tmp_path) as store:
        for record in days:
            store.traces.append(record)
        store.traces.roll()
        for record in (more := [make_inference() for _ in range(5)]):
            store.traces.append(record)
    (tmp_path / "fairlead.db").unlink()
    with Store.open(tmp_path) as store:
        store.traces.roll()
        assert any("are back" in sentence for sentence in store.recovered)
        found = store.traces.query(since=0, until=FOREVER, limit=100)
    assert found == sorted(days + more, key=lambda one: (one.time, one.id), reverse=True)


def test_mending_waits_until_nobody_uses_the_store(store: Store) -> None:
    with pytest.raises(StoreBusy):
        mend(store.directory)


def test_a_full_disk_is_named_and_the_store_goes_on_afterwards(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from fairlead.errors import DiskFull, StoreFull
from fairlead.store import Store
from fairlead.store.mend import mend
store = Store.open(Path(sys.argv[1]))
store.usecases.put("before", "h0", "x")
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
kept = ["h0"]
try:
    for number in range(1, 300):
        store.usecases.put("shop", f"h{number}", "x" * 30_000)
        kept.append(f"h{number}")
except StoreFull as error:
    assert isinstance(error, DiskFull) and "fairlead.db" in str(error), error
else:
    raise SystemExit("the limit did not hold")
try:
    store.objects.put(b"x" * 2_000_000)
except StoreFull as error:
    assert "objects" in str(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
store.usecases.put("after", "h9999", "x")
assert [one.spec_hash for one in store.usecases.list()] == [*kept, "h9999"], "what was confirmed is there"
assert store.objects.list() == []
store.close()
"""
    with run_script(script, tmp_path) as process:
        output = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.traces.append(make_inference())
    store.close()
    store.close()
    assert not store.traces.append(make_inference())
    with pytest.raises(StoreClosed):
        store.traces.query(since=0, until=1)
