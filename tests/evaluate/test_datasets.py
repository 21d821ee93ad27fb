"""Data sets: every format gives the same samples, bad lines are named, and what misleads is refused."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import nanoarrow as na
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nanoarrow import ipc

from fairlead.errors import DatasetInvalid, DatasetRefused, DatasetUnknown, TableUnreadable
from fairlead.evaluate import datasets
from fairlead.evaluate.likeness import Likeness, overlap, pieces
from fairlead.evaluate.production import from_conversations
from fairlead.evaluate.reading import Faults, Row, read
from fairlead.evaluate.samples import count_tags, fits, make_samples
from fairlead.evaluate.splits import groups, split
from fairlead.records import Conversation, Feedback, Message, Sample, Turn, Verdict, new_id, now_us
from fairlead.store import Store

SHOP = Path(__file__).parents[2] / "examples" / "shop"
COLUMNS: dict[str, Any] = {"tenant": "default", "subject": "anna", "usecase": "shop", "spec_hash": "", "release": ""}
ROWS = [
    {"id": "a", "question": "Where is my parcel?", "expected": "track", "tags": {"intent": "delivery"}},
    {"id": "b", "question": "Ça coûte combien, s'il vous plaît?", "expected": "price", "tags": {"intent": "price"}},
]


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def _read(path: Path, **more: Any) -> list[Sample]:
    source = read(path, **more)
    faults = Faults(str(path))
    samples = make_samples(source.rows, faults)
    faults.raise_any()
    return samples


def _sample(number: int, text: str, **more: Any) -> Sample:
    return Sample(id=f"s{number}", input=text, **more)


def _complaint(path: Path) -> str:
    with pytest.raises(DatasetInvalid) as caught:
        _read(path)
    return str(caught.value)


def _arrow(path: Path, texts: list[str], labels: list[int]) -> None:
    kind = na.struct({"text": na.string(), "label": na.int64()})
    columns = [na.c_array(texts, na.string()), na.c_array(labels, na.int64())]
    buffer = io.BytesIO()
    with ipc.StreamWriter.from_writable(buffer) as writer:
        writer.write_stream(na.c_array_from_buffers(kind, len(texts), [None], children=columns))
    path.write_bytes(buffer.getvalue())


def test_every_format_gives_the_same_samples(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8-sig")
    (tmp_path / "x.json").write_text(json.dumps({"about": "two", "rows": ROWS}), encoding="utf-8")
    header = "id,question,expected\n"
    body = '\na,Where is my parcel?,track\nb,"Ça coûte combien, s\'il vous plaît?",price\n'
    (tmp_path / "x.csv").write_text(header + body, encoding="utf-8")
    cells = [[row["id"], row["question"], row["expected"]] for row in ROWS]
    lines = ["\t".join(line) for line in [["id", "question", "expected"], *cells]]  # type: ignore[arg-type]
    (tmp_path / "x.tsv").write_text("\n".join(lines), encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE x (id VARCHAR, question VARCHAR, expected VARCHAR)")
        connection.executemany("INSERT INTO x VALUES (?, ?, ?)", cells)
        connection.execute(f"COPY x TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
    expected = [(row["id"], row["question"], row["expected"]) for row in ROWS]
    for name in ("x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet"):
        assert [(each.id, each.input, each.reference) for each in _read(tmp_path / name)] == expected, name


def test_the_shops_questions_are_samples() -> None:
    samples = _read(SHOP / "data" / "questions.jsonl")
    assert len(samples) > 100
    assert samples[0].reference == ["€5.90"]
    assert fits(samples[0], {"expect": "answer", "delivery": "*"})
    assert not fits(samples[0], {"expect": "handoff"})
    assert count_tags(samples)["delivery"]["yes"] > 10


def test_messages_become_question_reference_and_what_was_said_before() -> None:
    said = [("user", "Hi"), ("assistant", "Hello"), ("user", "Open?"), ("assistant", "Yes")]
    rows = [Row(1, {"messages": [{"role": role, "content": text} for role, text in said]})]
    [sample] = make_samples(rows, Faults("x"))
    assert (sample.id, sample.input, sample.reference) == ("1", "Open?", "Yes")
    assert sample.earlier == (Turn(role="user", text="Hi"), Turn(role="assistant", text="Hello"))


def test_bad_lines_are_named_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(
        b'{"id": "a", "question": "fine"}\n{"id": "a", "question": "again"}\nnot json\n[1]\n'
        b'{"question": "caf\xe9"}\n{"answer": "no question"}\n{"question": "ok", "tags": 7}\n'
    )
    told = _complaint(path)
    for line in (3, 4, 5):
        assert f"bad.jsonl:{line}:1: found" in told
    path.write_text(
        '{"id": "a", "question": "x"}\n{"id": "a", "question": "y"}\n{"answer": "z"}\n{"question": "w", "tags": 7}\n',
        encoding="utf-8",
    )
    told = _complaint(path)
    assert "line 1 has it" in told
    assert "bad.jsonl:3:1: found no question" in told
    assert "bad.jsonl:4:1: found tags of another form" in told


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.csv", b"id,question\na,b,c\n", "x.csv:2:1: found 3 cells; expected 2"),
        ("x.csv", b"id,id\na,b\n", "the column 'id' twice"),
        ("x.csv", "question\nfine\ncaf\xe9".encode("latin-1"), "x.csv:3:1: found bytes that are no UTF-8"),
        ("x.csv", "id,question\na,b".encode("utf-16"), "a file in UTF-16"),
        ("x.jsonl", '{"question": "b"}'.encode("utf-16"), "a file in UTF-16"),
        ("x.json", b'{"a": 1}', "JSON that is no list"),
        ("x.json", b"[1, 2]", "element 1, which is not an object"),
        ("x.xlsx", b"", "a file that ends in .xlsx"),
        ("x.jsonl", b"[" * 100_000, "nested too deeply"),
    ],
)
def test_files_that_cannot_be_read_say_why(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert told in _complaint(tmp_path / name)


FOREIGN = ["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.skipif(shutil.which("iconv") is None, reason="iconv is not installed")
@pytest.mark.parametrize("encoding", FOREIGN)
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_another_encoding_is_refused_with_the_command_that_mends_it(tmp_path: Path, encoding: str, suffix: str) -> None:
    row = {"id": "a", "question": "Ça coûte combien?"}
    line = json.dumps(row, ensure_ascii=False)
    text = {"jsonl": line, "json": f"[{line}]", "csv": "id,question\na,Ça coûte combien?\n"}[suffix]
    path = tmp_path / f"the shop's.{suffix}"
    path.write_bytes(text.encode(encoding))
    told = _complaint(path)
    assert f"shop's.{suffix}:{2 if (suffix, encoding) == ('csv', 'latin-1') else 1}:1: found" in told
    command = re.search(r"`(iconv [^`]*)`", told)
    assert command
    subprocess.run(["/bin/sh", "-c", command[1]], check=True)
    assert [(each.id, each.input) for each in _read(tmp_path / f"utf8-the shop's.{suffix}")] == [("a", row["question"])]


def test_lines_of_several_encodings_are_each_named(tmp_path: Path) -> None:
    lines = ['{"question": "é"}'.encode(encoding) for encoding in ("utf-8", "latin-1", "utf-8", "latin-1")]
    (tmp_path / "mixed.jsonl").write_bytes(b"\n".join(lines))
    told = _complaint(tmp_path / "mixed.jsonl")
    assert re.findall(r"mixed\.jsonl:(\d):1: found bytes that are no UTF-8", told) == ["2", "4"]


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "tsv"])
def test_a_mark_of_utf8_is_read_over(tmp_path: Path, suffix: str) -> None:
    line = '{"id": "a", "question": "é"}'
    text = {"jsonl": line, "json": f"[{line}]", "csv": "id,question\na,é\n", "tsv": "id\tquestion\na\té\n"}[suffix]
    (tmp_path / f"x.{suffix}").write_text(text, encoding="utf-8-sig")
    assert [(each.id, each.input) for each in _read(tmp_path / f"x.{suffix}")] == [("a", "é")]


def test_a_missing_file_and_a_broken_table_say_why(tmp_path: Path) -> None:
    assert "No such file" in _complaint(tmp_path / "none.jsonl")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(TableUnreadable, match=r"x\.parquet"):
        read(tmp_path / "x.parquet")


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["x.jsonl", "x.csv", "x.json", "x.tsv"]))
def test_no_bytes_break_the_readers(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(content)
    with contextlib.suppress(DatasetInvalid):
        assert all(sample.input for sample in _read(path))


def test_a_folder_that_datasets_saved(tmp_path: Path) -> None:
    for part, texts, labels in (("train", ["one", "two"], [0, 1]), ("test", ["three"], [1])):
        folder = tmp_path / part
        folder.mkdir()
        _arrow(folder / "data-00000-of-00001.arrow", texts, labels)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": part}
        (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
        features = {
            "text": {"dtype": "string", "_type": "Value"},
            "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
        }
        (folder / "dataset_info.json").write_text(
            json.dumps({"license": "MIT", "features": features}), encoding="utf-8"
        )
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}', encoding="utf-8")
    assert [(each.input, each.reference) for each in _read(tmp_path, part="train")] == [("one", "no"), ("two", "yes")]
    assert read(tmp_path, part="test").licence == "MIT"
    assert [each.input for each in _read(tmp_path / "test")] == ["three"]
    assert "--part with one of test or train" in _complaint(tmp_path)
    (tmp_path / "test" / "data-00000-of-00001.arrow").write_bytes(b"nothing")
    with pytest.raises(TableUnreadable):
        read(tmp_path, part="test")
    (tmp_path / "test" / "state.json").write_text('{"_data_files": [{"filename": "../../x.arrow"}]}', encoding="utf-8")
    assert read(tmp_path / "train").rows


def test_a_folder_as_the_hub_has_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("about", encoding="utf-8")
    for number in range(2):
        row = {"question": f"q{number}"}
        (tmp_path / "data" / f"train-0000{number}-of-00002.jsonl").write_text(json.dumps(row), encoding="utf-8")
    assert [(each.id, each.input) for each in _read(tmp_path)] == [("1", "q0"), ("2", "q1")]
    (tmp_path / "data" / "train-00000-of-00002.jsonl").unlink()
    (tmp_path / "data" / "train-00001-of-00002.jsonl").unlink()
    assert "a folder without data" in _complaint(tmp_path)


def test_nearly_the_same_is_found_and_other_wording_is_not() -> None:
    known = Likeness()
    text = "I ordered a tent two weeks ago and it has not arrived yet, can you tell me where it is?"
    known.add("a", text)
    assert known.same(text.upper().replace(",", " ")) == "a"
    assert known.near(text.replace("two", "three")) is not None
    assert known.near("My tent has been on its way for a fortnight. Any idea where it got to?") is None
    run = "Hello. " + text + " " + "I also want to ask something else entirely. " * 20
    assert known.near(run) == ("a", 1.0)


@settings(max_examples=60)
@given(st.text(max_size=40), st.text(max_size=40))
def test_overlap_is_that_of_the_sets(one: str, other: str) -> None:
    a, b = pieces(one), pieces(other)
    assert overlap(a, b) == pytest.approx(len(set(a) & set(b)) / len(set(a) | set(b)))


def test_what_misleads_is_refused_or_dropped_and_counted(store: Store) -> None:
    samples = [
        _sample(1, "Where is it?", reference="there"),
        _sample(2, "where is it", reference="there"),
        _sample(3, "WHERE IS IT", reference="elsewhere"),
        _sample(4, "Something else"),
    ]
    with pytest.raises(DatasetRefused, match=r"s2 and s1.*different reference.*s3 and s1.*--drop"):
        datasets.add(store, "q", samples, purpose="eval", licence="MIT")
    added = datasets.add(store, "q", samples, purpose="eval", licence="MIT", drop=True)
    assert (added.version.rows, added.dropped, added.version.lineage["dropped"]) == (2, 2, 2)
    assert [each.id for each in store.datasets.samples(added.version)] == ["s1", "s4"]


def test_two_customers_may_ask_the_same(store: Store) -> None:
    asked = [_sample(n, "Where is my order?", conversation=f"c{n}", subject=f"p{n}", reference=n) for n in range(3)]
    added = datasets.add(store, "asked", asked, purpose="eval", licence="own")
    assert (added.version.rows, len(added.review.near)) == (3, 2)
    assert len(set(groups(asked))) == 1


@pytest.mark.parametrize(
    ("learnt", "by"),
    [
        (_sample(9, "how long does delivery to  Norway take"), "text"),
        (_sample(9, "Anything", subject="anna"), "subject"),
        (_sample(9, "Anything", conversation="c1"), "conversation"),
    ],
)
def test_learning_from_what_is_measured_is_refused(store: Store, learnt: Sample, by: str) -> None:
    measured = _sample(1, "How long does delivery to Norway take?", subject="anna", conversation="c1")
    datasets.add(store, "questions", [measured], purpose="eval", licence="MIT")
    with pytest.raises(DatasetRefused, match=f"s9 by its {by} with s1 of questions@1"):
        datasets.add(store, "lessons", [learnt], purpose="train", licence="MIT")
    with pytest.raises(DatasetRefused, match="no samples"):
        datasets.add(store, "lessons", [learnt], purpose="train", licence="MIT", drop=True)
    assert datasets.add(store, "more", [learnt], purpose="eval", licence="MIT").new


def test_versions_are_content_and_remember_their_parent(store: Store) -> None:
    first = datasets.add(store, "q", [_sample(1, "one", tags={"intent": "a"})], purpose="eval", licence="MIT").version
    again = datasets.add(store, "q", [_sample(1, "one", tags={"intent": "a"})], purpose="eval", licence="MIT")
    assert (again.new, again.version.id) == (False, first.id)
    later = [_sample(1, "one!", tags={"intent": "a"}), _sample(2, "two")]
    second = datasets.add(store, "q", later, purpose="eval", licence="MIT").version
    assert (second.version, second.parent) == (2, first.content)
    assert first.tags == {"intent": {"a": 1}}
    found = datasets.compare(store.datasets.samples(first), store.datasets.samples(second))
    assert (found.added, found.removed, found.changed, found.same) == (("s2",), (), ("s1",), 0)
    assert [each.version for each in store.datasets.newest()] == [2]
    assert store.datasets.get("q", 1) == first
    with pytest.raises(DatasetUnknown, match=r"'q@3'.*q@2"):
        store.datasets.get("q", 3)
    with pytest.raises(DatasetRefused, match="serves one purpose"):
        datasets.add(store, "q", [_sample(5, "x")], purpose="train", licence="MIT")
    with pytest.raises(DatasetRefused, match="licence"):
        datasets.add(store, "r", [_sample(5, "x")], purpose="train", licence=" ")


def test_a_dry_run_keeps_nothing(store: Store) -> None:
    added = datasets.add(store, "q", [_sample(1, "one")], purpose="eval", licence="MIT", dry_run=True)
    assert added.version.rows == 1
    assert store.datasets.newest() == []
    assert store.objects.list() == []


def test_parts_share_no_person_no_conversation_and_no_text(store: Store) -> None:
    samples = [
        _sample(
            n,
            f"question number {n % 300} about thing {n % 300 * 7919}",
            subject=f"p{n % 80}",
            conversation=f"c{n // 3}",
        )
        for n in range(400)
    ]
    loose = [_sample(n + 1_000, f"{n * 104729} is what I ask about today, {n}") for n in range(200)]
    parts = split([*samples, *loose], {"train": 0.7, "eval": 0.3})
    assert parts == split([*samples, *loose], {"train": 0.7, "eval": 0.3})
    assert sum(map(len, parts.values())) == 600
    for part, purpose in (("train", "train"), ("eval", "eval")):
        chosen = list({each.input: each for each in parts[part]}.values())
        datasets.add(store, part, chosen, purpose=purpose, licence="MIT")  # type: ignore[arg-type]
    backwards = split([*reversed([*samples, *loose])], {"train": 0.7, "eval": 0.3})
    assert {each.id for each in backwards["eval"]} == {each.id for each in parts["eval"]}
    assert parts != split([*samples, *loose], {"train": 0.7, "eval": 0.3}, salt="another")


def test_shares_are_about_what_was_asked_for() -> None:
    samples = [_sample(n, f"{n * 7919} asks", subject=f"p{n}") for n in range(2_000)]
    assert 0.17 < len(split(samples, {"train": 0.8, "eval": 0.2})["eval"]) / 2_000 < 0.23


def test_a_split_that_cannot_be_is_refused() -> None:
    with pytest.raises(DatasetRefused, match="sum of 1"):
        split([_sample(1, "x")], {"train": 0.7, "eval": 0.2})
    with pytest.raises(DatasetRefused, match="1 groups, and none falls to"):
        split([_sample(1, "x", subject="a"), _sample(2, "y", subject="a")], {"train": 0.7, "eval": 0.3})
    assert groups([]) == []


def _talk(store: Store, *said: tuple[str, str], subject: str = "anna") -> list[Message]:
    columns = COLUMNS | {"subject": subject}
    talk = Conversation(id=new_id(), time=now_us(), **columns)
    store.conversations.create(talk)
    return [
        store.conversations.add(
            Message(id=new_id(), time=now_us(), **columns, conversation=talk.id, role=role, text=text)  # type: ignore[arg-type]
        )
        for role, text in said
    ]


def test_production_gives_samples_with_what_people_said(store: Store) -> None:
    messages = _talk(store, ("user", "Where is it?"), ("assistant", "No idea."), ("user", "Thanks for nothing"))
    _talk(store, ("user", "Hello"), ("assistant", "Hi"), subject="ben")
    for kind, value, text in (("thumb", -1.0, ""), ("demonstration", None, "It arrives tomorrow.")):
        store.feedback.add(
            Feedback(
                id=new_id(), time=now_us(), **COLUMNS, target_kind="message", target=messages[1].id, kind=kind,  # type: ignore[arg-type]
                value=value, text=text, author="op", question="Where is it?" if text else "",
            )
        )  # fmt: skip
    found = {each.input: each for each in from_conversations(store, since=0, until=now_us() + 1)}
    assert found.keys() == {"Where is it?", "Hello"}
    asked = found["Where is it?"]
    assert (asked.reference, asked.subject, asked.conversation) == (
        "It arrives tomorrow.",
        "anna",
        messages[0].conversation,
    )
    assert asked.fields == {"answer": "No idea.", "inference": "", "thumb": -1.0}
    assert found["Hello"].reference is None
    shown = list(from_conversations(store, since=0, until=now_us() + 1, only_demonstrations=True))
    assert [each.id for each in shown] == [asked.id]


def test_verdicts_are_kept_and_found(store: Store) -> None:
    kept = [
        Verdict(
            id=new_id(), time=now_us(), **COLUMNS | {"subject": ""}, objective=name, step="select", outcome="pass",
            value=0.9, low=0.85, high=None, n=300, slice={"intent": "refund"},
        )
        for name in ("one", "two")
    ]  # fmt: skip
    store.verdicts.add(kept)
    store.verdicts.add([])
    assert store.verdicts.list(since=0, until=now_us() + 1, objective="two", usecase="shop") == [kept[1]]
    assert store.verdicts.list(since=0, until=1) == []
