"""Yes or no before a rule: said where arithmetic decides, never in doubt."""

from __future__ import annotations

import pytest

from fairlead.engines.extractive.verdict import verdict


@pytest.mark.parametrize(
    ("question", "rule", "said"),
    [
        ("is 40 days too late to return it?", "You can return items within 30 days.", "Yes"),
        ("is 20 days too late to return it?", "You can return items within 30 days.", "No"),
        ("It's been 5 weeks, can I still send it back?", "You have 30 days to return clothes.", "No"),
        ("Two weeks have passed, can I still send it back?", "You have 30 days to return clothes.", "Yes"),
        ("can I return after 30 days", "Return it within 30 days.", "No"),
        ("is delivery free for £45", "Delivery is free on orders over £50.", "No"),
        ("My basket is €60, is postage free?", "Postage is €4 and free above €50.", "Yes"),
        ("is postage free at exactly €50", "Postage is free above €50.", "No"),
        ("is postage free at exactly €50", "Postage is free from €50.", "Yes"),
        # In doubt nothing is said: a month may have 28 or 31 days, a sum in another currency, exceptions, two measures.
        ("is a month too late to return it?", "You can return items within 30 days.", ""),
        ("is it free for $60", "Postage is free above €50.", ""),
        ("is 40 days too late?", "We check returns within 5 working days.", ""),
        ("is 40 days too late?", "Checking a return can take up to 8 working days.", ""),
        ("is 40 days too late?", "Sale items cannot be returned within 30 days.", ""),
        ("is 40 days too late?", "Within 30 days, except for shoes.", ""),
        ("is 40 days too late?", "Clothes within 30 days, shoes within 60 days.", ""),
        ("is 10 or 40 days too late?", "You can return items within 30 days.", ""),
        ("about 30 days ago I bought it, can I still return it?", "You can return items within 30 days.", ""),
        ("how many days can I return, 40?", "You can return items within 30 days.", ""),
        ("is 20 days too late?", "Return it within 14 working days.", ""),
    ],
)
def test_arithmetic_decides_or_nothing_is_said(question: str, rule: str, said: str) -> None:
    assert verdict(question, rule) == said
