"""Training: a resumed run goes on exactly, the circuit stays as set, and the loss falls."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[tune]'")
pytest.importorskip("tokenizers", reason="training needs tokenizers: pip install '.[tune]'")

from training.generator import Extra  # noqa: E402
from training.mixture import draw_document  # noqa: E402
from training.model import Shape  # noqa: E402
from training.packing import Encoder, make_block, pack  # noqa: E402
from training.prompt import TURN_START, render  # noqa: E402
from training.tokenizer import load_tokenizer, train_tokenizer  # noqa: E402
from training.train import CHECKPOINT, Plan, Trainer, load_checkpoint, parse, train  # noqa: E402

SMALL = Plan(tokens=20_000, rows=4, length=192, block=16)


@pytest.fixture(scope="module")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(Extra(), count=300, size=1024).save(str(path))
    return path


def build_trainer(path: Path, plan: Plan = SMALL) -> Trainer:
    tokenizer = load_tokenizer(path)
    shape = Shape(vocabulary=tokenizer.get_vocab_size(), layers=2)
    return Trainer(plan, shape, tokenizer.token_to_id(TURN_START), torch.device("cpu"), compiled=False)


def test_the_tokenizer_splits_digits_and_keeps_every_text(tokenizer_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_path)
    text = "Order A30-1720 costs €73.45 — naïve, 東京, \n\n  end"
    encoded = tokenizer.encode(text)
    assert tokenizer.decode(encoded.ids) == text
    assert not [token for token in encoded.tokens if sum(c.isdigit() for c in token) > 1]
    assert len(tokenizer.encode(TURN_START).ids) == 1


def test_a_packed_row_holds_whole_documents_apart(tokenizer_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_path)
    rows = make_block(Encoder(tokenizer), Extra(), 3, 12, 384, 1)
    rng = random.Random("block train 1 3")
    written = {render(draw_document(rng, "train", Extra())) for _ in range(200)}
    complete = 0
    for tokens, owners in zip(rows.tokens, rows.documents, strict=True):
        for owner in sorted(set(owners.tolist()) - {0}):
            text = tokenizer.decode(tokens[owners == owner].tolist(), skip_special_tokens=False)
            assert text.startswith("<|im_start|>system\n")
            complete += text in written
    assert complete > 10


def test_losses_are_taken_first_where_the_model_writes(tokenizer_path: Path) -> None:
    rows = make_block(Encoder(load_tokenizer(tokenizer_path)), Extra(), 0, 8, 384, 1)
    assert rows.positions.shape == rows.weights.shape == (8, 192)
    assert {round(weight, 3) for weight in rows.weights.flatten().tolist()} <= {0.0, 0.1, 1.0}
    assert (rows.weights == 1.0).sum() > 8 * 40
    assert rows.positions.max() < 384


def test_blocks_depend_on_seed_number_and_split_alone(tokenizer_path: Path) -> None:
    encoder = Encoder(load_tokenizer(tokenizer_path))
    first, again, other, reseeded = (
        make_block(encoder, Extra(), number, 8, 192, seed).tokens.tolist()
        for number, seed in ((0, 1), (0, 1), (1, 1), (0, 2))
    )
    held_out = make_block(encoder, Extra(), 0, 8, 192, 1, "wordings").tokens.tolist()
    assert first == again
    assert first not in (other, reseeded, held_out)


def test_a_document_that_does_not_fit_is_cut_after_an_answer(tokenizer_path: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_path)
    encoder, rng = Encoder(tokenizer), random.Random(1)
    for _ in range(100):
        document = draw_document(rng, "train", Extra())
        ids, weights = encoder.encode(document, 150)
        assert len(ids) == len(weights) <= 150
        if ids:
            text = tokenizer.decode(ids, skip_special_tokens=False)
            assert render(document).startswith(text)
            assert text.rstrip("\n").rsplit("<|im_start|>", 1)[1].startswith("assistant\n")


def test_documents_too_long_for_a_row_are_left_out(tokenizer_path: Path) -> None:
    rng = random.Random(1)
    documents = (draw_document(rng, "train", Extra()) for _ in iter(int, 1))
    rows = pack(Encoder(load_tokenizer(tokenizer_path)), documents, 4, 100, random.Random(2))
    assert (rows.documents > 0).any(axis=1).all()


def test_a_resumed_run_goes_on_exactly(tokenizer_path: Path, tmp_path: Path) -> None:
    block = make_block(Encoder(load_tokenizer(tokenizer_path)), Extra(), 0, 16, SMALL.length, 1)
    batches = [block.pick(slice(start, start + 4)) for start in range(0, 16, 4)]
    straight = build_trainer(tokenizer_path)
    losses = [straight.train_step(rows, 0.1 * place) for place, rows in enumerate(batches)]

    stopped = build_trainer(tokenizer_path)
    for place in range(2):
        assert stopped.train_step(batches[place], 0.1 * place) == losses[place]
    stopped.save(tmp_path / CHECKPOINT)
    resumed = build_trainer(tokenizer_path)
    resumed.restore(load_checkpoint(tmp_path / CHECKPOINT))
    assert [resumed.train_step(batches[place], 0.1 * place) for place in (2, 3)] == losses[2:]
    assert all(torch.equal(resumed.weights[name], straight.weights[name]) for name in straight.weights)
    assert resumed.tokens == straight.tokens == 4 * 4 * SMALL.length
    assert not list(tmp_path.glob("*.partial"))


def test_the_circuit_stays_as_set_and_the_rest_learns(tokenizer_path: Path) -> None:
    trainer = build_trainer(tokenizer_path)
    before = {name: weight.detach().clone() for name, weight in trainer.weights.items()}
    block = make_block(Encoder(load_tokenizer(tokenizer_path)), Extra(), 0, 4, SMALL.length, 1)
    losses = [trainer.train_step(block, 0.1) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]
    for name, part in trainer.frozen:
        assert torch.equal(trainer.weights[name][part], before[name][part])
    assert all(not torch.equal(trainer.weights[name], before[name]) for name in trainer.weights)


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Plan()
    rates = [plan.rate_at(done) for done in (0.0, 0.01, 0.02, 0.5, 0.75, 0.999)]
    assert rates == pytest.approx([0.02, 0.5, 1.0, 1.0, 0.5, 0.02])


def test_the_command_trains_saves_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRLEAD_DATA", raising=False)
    small = ["--run", str(tmp_path), "--no-compile", "--rows", "2", "--length", "128", "--block", "8", "--seed", "4"]
    train(parse([*small, "--tokens", "512"]))
    first = load_checkpoint(tmp_path / CHECKPOINT)
    assert first["place"]["tokens"] == 512
    with pytest.raises(SystemExit, match="go on with --resume"):
        train(parse([*small, "--tokens", "512"]))
    train(parse(["--run", str(tmp_path), "--no-compile", "--resume", "--tokens", "1024"]))
    second = load_checkpoint(tmp_path / CHECKPOINT)
    assert second["place"]["tokens"] == 1024
    assert [entry["step"] for entry in second["history"]] == [0, 2]
    assert second["history"][-1]["plan"]["tokens"] == 1024
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 2
