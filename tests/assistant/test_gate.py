"""The gate on policy: what the sources deny must not be affirmed, and the other way round."""

from __future__ import annotations

import pytest

from fairlead.assistant.gate import Gate, contradicts

EVIDENCE = [
    "Delivery. Delivery within Germany is free from €60. Returns from Germany and Austria are free of charge.",
    "Returns. Gift cards cannot be returned. Engraved items cannot be returned unless they are faulty.",
    "Express. Saturday delivery is not available in Austria. The tent is waterproof.",
    "Orders. You can cancel an order free of charge until it is packed.",
]


@pytest.mark.parametrize(
    "text",
    [
        "Gift cards can be returned.",
        "Returns from Germany and Austria are not free of charge.",
        "Saturday delivery is available in Austria.",
        "The tent isn't waterproof.",
        "The tent isn’t waterproof.",
    ],
)
def test_the_opposite_of_a_source_does_not_get_out(text: str) -> None:
    assert contradicts(text, EVIDENCE)
    gate = Gate(EVIDENCE)
    assert [*gate.pass_on(f"{text} "), *gate.finish(whole=True)] == []
    assert gate.rejected == "contradicts"


@pytest.mark.parametrize(
    "text",
    [
        "Gift cards cannot be returned.",
        "Sorry, gift cards can't be returned.",
        "Returns from Germany and Austria are free.",
        "Saturday delivery is not available in Austria.",
        "No, the tent is waterproof.",
        "You can cancel an order free of charge until it is packed.",
        "Engraved items can be returned if they are faulty.",
        "Delivery within Germany is not free below €60.",
        "You're welcome!",
    ],
)
def test_what_a_source_says_gets_out(text: str) -> None:
    assert not contradicts(text, EVIDENCE)


def test_sources_that_disagree_allow_both() -> None:
    both = [*EVIDENCE, "Gift cards can be returned."]
    assert not contradicts("Gift cards can be returned.", both)
    assert not contradicts("Gift cards cannot be returned.", both)


@pytest.mark.parametrize("said", ["Your order TT-1 was cancelled on Monday.", "We have changed the address."])
def test_a_change_that_a_tool_tells_of_may_be_told(said: str) -> None:
    gate = Gate([*EVIDENCE, '{"summary": "Your order TT-1 was cancelled on Monday. The address was changed."}'])
    assert [*gate.pass_on(said), *gate.finish(whole=True)] == [said]


def test_marks_of_markdown_that_would_be_shown_as_they_are_are_left_out() -> None:
    gate = Gate(EVIDENCE)
    said = "## Delivery\n**Delivery within Germany** is free from **€60**."
    shown = "".join([*gate.pass_on(said), *gate.finish(whole=True)])
    assert shown == "Delivery\nDelivery within Germany is free from €60."


def test_a_bare_yes_to_whether_somebody_is_real_does_not_get_out() -> None:
    gate = Gate(EVIDENCE, ["How much is a tent?", "Somebody real writes this, correct?"])
    assert [*gate.pass_on("Yes, indeed."), *gate.finish(whole=True)] == []
    assert gate.rejected == "claims_human"
