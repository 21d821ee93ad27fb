"""The model and its copy circuit. Needs torch, which only training needs: `pip install '.[tune]'`."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install '.[tune]'")

from training.model import (  # noqa: E402
    CopyCircuit,
    Shape,
    build_weights,
    count_parameters,
    encode,
    rope_tables,
    token_losses,
)

SHAPE = Shape(vocabulary=512, layers=2)
SINK = 1


def causal(length: int) -> object:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


def test_the_shipped_shape_has_the_stated_size() -> None:
    weights = build_weights(Shape(), 1, SINK)
    assert count_parameters(weights) == 8_564_800
    assert all(weight.requires_grad for weight in weights.values())


def test_an_untrained_circuit_copies_and_a_plain_model_does_not() -> None:
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(5, SHAPE.vocabulary, (8, 60), generator=generator)
    tokens = torch.cat((torch.full((8, 1), SINK), first, first), dim=1)
    tables = rope_tables(SHAPE, tokens.shape[1])
    shares = {}
    for circuit in (True, False):
        shape = Shape(vocabulary=512, layers=2, circuit=circuit)
        with torch.no_grad():
            weights = build_weights(shape, 1, SINK)
            states = encode(weights, shape, tokens, causal(tokens.shape[1]), tables)
            guess = (states @ weights["embedding"].T).argmax(-1)
        shares[circuit] = float((guess[:, 62:-1] == tokens[:, 63:]).float().mean())
    assert shares[True] > 0.85
    assert shares[False] < 0.05


def test_a_token_sees_nothing_that_comes_after_it() -> None:
    weights = build_weights(SHAPE, 2, SINK)
    tokens = torch.randint(0, 512, (1, 20), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[0, 12:] = 7
    tables = rope_tables(SHAPE, 20)
    with torch.no_grad():
        before, after = (encode(weights, SHAPE, ids, causal(20), tables) for ids in (tokens, changed))
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


def test_losses_are_taken_where_asked() -> None:
    weights = build_weights(SHAPE, 2, SINK)
    tokens = torch.randint(0, 512, (2, 11), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        states = encode(weights, SHAPE, tokens[:, :-1], causal(10), rope_tables(SHAPE, 10))
        positions = torch.tensor([[0, 4, 9], [2, 3, 5]])
        found = token_losses(weights, states, positions, tokens.gather(1, positions + 1))
        scores = (states @ weights["embedding"].T).log_softmax(-1)
    for row in range(2):
        for place, position in enumerate(positions[row].tolist()):
            expected = -scores[row, position, tokens[row, position + 1]]
            assert float(found[row, place]) == pytest.approx(float(expected), abs=1e-4)


def test_the_frozen_parts_exist_and_leave_most_of_the_model_free() -> None:
    weights = build_weights(SHAPE, 1, SINK)
    held = sum(weights[name][part].numel() for name, part in CopyCircuit(SHAPE).frozen())
    assert 0 < held < 0.2 * count_parameters(weights)
