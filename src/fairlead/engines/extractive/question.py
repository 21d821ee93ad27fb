"""A customer's message as questions: what kind of answer fits, several in one message, leaning on the turn before.

Knows no documents.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive.text import STOP, concepts_of, names_thing, respell, stem

Kind = Literal["duration", "money", "time", "place", "contact", "who", "number", "yesno", "how", "list", "other"]
MOST_QUESTIONS = 4  # of one message that are answered
LONGEST = 4000  # characters of a message that are looked at
_KINDS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "duration",
        re.compile(
            r"\bhow (?:long|soon|fast|quick(?:ly)?)\b|\bhow many (?:day|week|month|year|hour|minute)s?"
            r"|\bhow much time|\b(?:delivery|shipping|waiting|processing|return|refund) (?:times?|periods?)\b"
            r"|\bby when\b|\buntil when\b|\bdeadline\b|\btoo late\b|\bhow old\b|\bfor what period\b"
            r"|\btill when\b"
        ),
    ),
    (
        "time",
        re.compile(
            r"\bwhat time\b|\bwhen (?:are|do|does) you\b|\bhow late\b|\bopening (?:hours|times)|\bare you open"
            r"|\bu open|\bopen on\b|\bwhat are your hours"
        ),
    ),
    (
        "contact",
        re.compile(
            r"\bphone number|\bnumber (?:can|do|should|to)\b|\bwhich number\b|\be-?mail address"
            r"|\bcontact (?:details|you)|\breach (?:you|customer)|\bcan i (?:call|ring|e?-?mail|phone)\b"
            r"|\bget in touch"
        ),
    ),
    (
        "money",
        re.compile(
            r"\bhow much\b(?! (?:time|weight|longer|do(?:es)? (?:it|the [a-z0-9 ]{1,20}) weigh|can it))"
            r"|\bwhat (?:would|does|do|is|will) .{0,40}\b(?:cost|price|pay|fee|charge)|\bprices?\b|\bcosts?\b"
            r"|\bfees?\b|\bcharged?\b|\bwhat do you want for|\bexpensive|\bfree\b|\bwhat would you (?:give"
            r"|charge)"
        ),
    ),
    (
        "number",
        re.compile(
            r"\bhow (?:heavy|tall|wide|big|large|many|deep|high|far)\b|\bweigh|\bhow much weight"
            r"|\bdimensions\b|\bwhat temperature|\bwhat age"
        ),
    ),
    (
        "place",
        re.compile(
            r"\bwhere (?:is|are|exactly|do|does) (?:your|you|the (?:shop|store)|it made|they made|exactly)"
            r"|\byour address|\blocated\b|\bwhich city|\bin which (?:city|country)|\bwhere exactly"
        ),
    ),
    (
        "who",
        re.compile(r"\bwho\b|\bwhich (?:carrier|company|courier)\b"),
    ),
    (
        "duration",
        re.compile(r"\bwhen\b"),
    ),
    (
        "list",
        re.compile(
            r"\bwhich\b|\bwhat (?:kinds?|sorts?|types?|ways|payment|cards|countries|languages|sizes"
            r"|colou?rs)\b"
        ),
    ),
    (
        "how",
        re.compile(
            r"\bhow (?:do|can|to|does|should|would)\b|\bwhat (?:do i|should i|must i|happens|if)\b"
            r"|\bwhere (?:do|can) i\b|\bsteps\b|\bwhat now\b"
        ),
    ),
    (
        "yesno",
        re.compile(
            r"^(?:and |but |so |also |hi |hello )*(?:can|could|do|does|did|is|are|am|will|would|may|was|were"
            r"|has|have|should|must)\b|\bis (?:it|there|this)\b|\bare there\b|\bdo you\b|\bcan (?:i|you|we)\b"
            r"|\bwould you\b|\bwill you\b"
        ),
    ),
)
_LEAN = re.compile(
    r"^(?:and|what about|how about|but what|but|also|or|same for|ok(?:ay)? and|so)\b|\b(?:that|it|they|them|those"
    r"|these|this one|there)\b"
)
_PREFIX = re.compile(r"^(?:ok(?:ay)?|and|but|also|so|what about|how about|same for|or|,|\s)+\b")
# Ideas that say nothing alone: "and how much is that?" needs to know what.
_HANGING = frozenset(("cost", "free", "time_limit", "quantity", "minimum", "recommend", "about"))
_SPLIT = re.compile(r"(?<=[?!])\s+|(?<=[a-z]{2}\.)\s+|[;\n]+")
_JOINED = re.compile(
    r",?\s+(?:and|also|plus|&)\s+(?:also\s+|then\s+)?(?=(?:how|what|when|where|who|which|why|can|could|do|does|is"
    r"|are|will|would)\s+\w+\s+\w+)",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r".*\?|^(?:(?:and|but|so|also|hi|hello|hey|ok|okay|please)[ ,!]+)*(?:how|what|when|where|who|which|why|can|could"
    r"|do|does|did|is|are|will|would|may|should|am|any|tell me|explain)\b",
    re.IGNORECASE,
)


_OPENS = re.compile(
    r"(?:(?:and|but|so|also|or|ok|okay)[ ,]+)*(?:how (?!about)|what (?!about)|when|where|who|which|why|can|could|do"
    r"|does|is|are|will|would)"
)
_PRIVATE = re.compile(r"\S{1,64}@\S{1,255}|#\s?\d+|(?<!\w)(?:[A-Za-z]{1,5}[-_/]?)?\d{5,}\w*")


class Query(NamedTuple):
    """A question made to stand alone. ``words`` are folded and respelt; ``own`` marks those of this very message."""

    text: str
    kind: Kind
    words: tuple[str, ...]
    own: frozenset[str]
    concepts: frozenset[str]
    leaning: bool

    @property
    def stems(self) -> list[str]:
        """Distinct stems that carry meaning, in order."""
        return list(dict.fromkeys(stem(w) for w in self.words if w not in STOP))


def kind_of(text: str) -> Kind:
    """What kind of answer a question wants."""
    folded = fold(text)
    for kind, pattern in _KINDS:
        if pattern.search(folded):
            return kind
    return "other"


def asks(text: str) -> bool:
    """Whether a text is put as a question."""
    return bool(_ASKS.search(text.strip()))


def split(message: str) -> list[str]:
    """The questions of a message, at most MOST_QUESTIONS; background sentences stay with the question after them."""
    parts = [p.strip() for s in _SPLIT.split(message[:LONGEST]) if s and s.strip() for p in _JOINED.split(s)]
    asking = [i for i, part in enumerate(parts) if asks(part) and len(words_of(part)) > 1]
    if len(asking) < 2:
        return [message[:LONGEST].strip()]
    questions: list[str] = []
    start = 0
    for i in asking[:MOST_QUESTIONS]:
        before = [p for p in parts[start:i] if len(words_of(p)) > 2]
        questions.append(" ".join([*before[-1:], parts[i]]))
        start = i + 1
    return questions


def bare_of(text: str) -> str:
    """A message without e-mail addresses and order numbers: whose they are does not change what is asked."""
    return _PRIVATE.sub(" ", text[:LONGEST])


def query_of(text: str) -> Query:
    """A question that needs nothing before it."""
    text = bare_of(text)
    words = tuple(respell(w) for w in words_of(text))
    kind = kind_of(text)
    if kind == "other":
        kind = kind_of(" ".join(words))
    return Query(text, kind, words, frozenset(words), concepts_of(words), leaning=False)


def leans(text: str) -> bool:
    """Whether a message makes sense only with the turn before: short, and opening or pointing like a follow-up."""
    words = words_of(text)
    meaning = [w for w in words if w not in STOP]
    folded = fold(text).strip()
    if len(words) > 9 or len(meaning) > 3:
        return False
    if _OPENS.match(folded) and concepts_of(words) - _HANGING:
        return False
    return (len(meaning) < 2 and len(words) < 6) or bool(_LEAN.search(folded))


def standalone(text: str, earlier: Sequence[str]) -> Query:
    """A question together with what it leans on: ``earlier`` are the customer's messages before it, oldest first.

    "and for shoes?" after "how long can I return trousers?" becomes a question about returns and shoes.
    """
    return joined(text, earlier) if leans(text) else query_of(text)


def readings(text: str, earlier: Sequence[str]) -> list[Query]:
    """The ways to read a message after others: as it leans on them or by itself, the likelier way first."""
    alone = query_of(text)
    with_others = joined(text, earlier)
    if not with_others.leaning:
        return [alone]
    return [with_others, alone] if leans(text) else [alone, with_others]


def joined(text: str, earlier: Sequence[str]) -> Query:
    """A question with the last one before it that says anything; the question alone when there is none."""
    query = query_of(text)
    for index in range(len(earlier) - 1, max(-1, len(earlier) - 4), -1):
        before = split(earlier[index])[-1]
        if not any(w not in STOP for w in words_of(before)):
            continue
        base = standalone(before, earlier[:index])
        kind = query.kind if query.kind not in ("other", "yesno") else base.kind
        bare = _PREFIX.sub("", fold(text)).strip()
        instead = any(names_thing(w) for w in query.words)  # "and for shoes?": shoes instead of what was named before
        words = tuple(w for w in base.words if not (instead and names_thing(w))) + query.words
        own = frozenset(w for w in query.words)
        return Query(f"{base.text} {bare}", kind, words, own, concepts_of(words), leaning=True)
    return query
