"""Whether two texts agree in what a word vector cannot see: numbers, names, identifiers, "not", may and must, language.

A veto, never a vote: texts that agree here may still say different things. Pure; raises nothing on any text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import msgspec

_TOKEN: Final = re.compile(r"[^\W_]+(?:['’][^\W\d_]{1,3})?(?:[_.@/:#-]*[^\W_]+)*_*")
_PLAIN: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_NUMBER: Final = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NOT: Final = frozenset(
    "not no never none nobody nothing nowhere neither nor without cannot cant dont doesnt didnt isnt wasnt wont arent "
    "hasnt havent unable fail fails failed except "
    "kein keine keinen nicht nie ohne pas jamais sans non nunca sin".split()
)
_SPELT: Final = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty".split()
    )
    if number > 1
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "ninety": "90", "hundred": "100", "twice": "2"}
_MODES: Final = {
    word: mode
    for mode, words in {
        "may": "can could may might able allowed permitted possible",
        "must": "must should shall required necessary need needs ought",
        "who": "who whom whose", "when": "when", "where": "where", "why": "why", "how": "how",
    }.items()
    for word in words.split()
}  # fmt: skip
_ASKING: Final = frozenset(("who", "when", "where", "why"))
_OPPOSITES: Final = tuple(
    (frozenset(one.split()), frozenset(other.split()))
    for one, other in (
        ("before earlier until", "after later since"),
        ("within", "after"),
        ("on enable enabled activate", "off disable disabled deactivate"),
        ("open opens", "close closes closed"),
        ("in into add added enter", "out remove removed leave"),
        ("more increase up raise higher", "less decrease down lower reduce"),
        ("first start starts begin begins", "last end ends stop stops"),
        ("buy bought receive received get", "sell sold send sent return"),
        ("with", "without"),
        ("max maximum most", "min minimum least"),
        ("early", "late"),
        ("new", "used old"),
        ("big large long", "small short little"),
        ("import load download read", "export save upload write"),
        ("true", "false"),
        ("input source from", "output target to"),
        ("credit", "debit"),
        ("all every", "some any one"),
        ("train training", "test testing validation"),
        ("allow accept", "deny refuse reject cancel"),
        ("public", "private"),
        ("cheap free", "expensive paid"),
    )
)
_OWN: Final = frozenset(("I", "I'm", "I've", "I'd", "I'll"))
_RELATIONS: Final = frozenset(
    "before after until till once since while during unless if except "
    "only all part whole entire both either half".split()
)
"""Little words that turn a sentence: where each text has one that the other lacks, they are not compared further."""
_LANGUAGES: Final = {
    "en": "the is are what how do you my i to of and can in it for this that",
    "de": "der die das ist und ich nicht wie was mein meine ein eine wo kann zu",
    "fr": "le la les est et je pas comment mon ma un une où puis que des",
    "es": "el los las es y yo cómo mi un una dónde puedo que del por",
    "it": "il lo gli è e io non come mio mia un una dove posso che di",
    "nl": "de het is en ik niet hoe mijn een waar kan ik wat van",
}
_WORDS_OF: Final = {language: frozenset(words.split()) for language, words in _LANGUAGES.items()}


class Facts(msgspec.Struct, frozen=True):
    """What must agree in two texts that say the same."""

    words: frozenset[str]
    numbers: frozenset[str]
    names: frozenset[str]
    negations: int
    modes: frozenset[str]
    script: str
    language: str


def facts_of(text: str) -> Facts:
    """The facts of a text."""
    folded = text if text.isascii() else unicodedata.normalize("NFKC", text)
    tokens = _TOKEN.findall(folded)
    lower = [token.lower() for token in tokens]
    words = frozenset(word.replace("'", "").replace("’", "") for word in lower)
    return Facts(
        words=words,
        numbers=frozenset(_numbers(folded, lower)),
        names=frozenset(_names(tokens)),
        negations=sum(
            word.replace("'", "").replace("’", "") in _NOT or word.endswith(("n't", "n’t")) for word in lower
        ),
        modes=frozenset(_MODES[word] for word in lower if word in _MODES),
        script=_script(folded),
        language=_language(words),
    )


def disagreement(one: Facts, other: Facts) -> str:
    """In what two texts differ, a word; empty where they agree."""
    if one.numbers != other.numbers:
        return "number"
    if one.negations % 2 != other.negations % 2:
        return "negation"
    if one.script != other.script or (one.language and other.language and one.language != other.language):
        return "language"
    if one.names ^ other.names:
        left = {name for name in one.names if name.lower() not in other.words}
        right = {name for name in other.names if name.lower() not in one.words}
        if left or right:
            return "name"
    if (one.modes & _ASKING) != (other.modes & _ASKING):
        return "question"
    if ("must" in one.modes) != ("must" in other.modes) and ("may" in one.modes) != ("may" in other.modes):
        return "modality"
    only_one, only_other = one.words - other.words, other.words - one.words
    for left_side, right_side in _OPPOSITES:
        if (only_one & left_side and only_other & right_side) or (only_one & right_side and only_other & left_side):
            return "opposite"
    return "relation" if only_one & _RELATIONS and only_other & _RELATIONS else ""


def _numbers(text: str, words: list[str]) -> list[str]:
    return [*(found.lstrip("0") or "0" for found in _NUMBER.findall(text)), *(_SPELT[w] for w in words if w in _SPELT)]


def _names(tokens: list[str]) -> list[str]:
    """Identifiers, and words with a capital letter that do not begin the text."""
    found = []
    for place, token in enumerate(tokens):
        if _NUMBER.fullmatch(token) or token in _OWN:
            continue
        odd = _PLAIN.fullmatch(token) is None or token[1:] != token[1:].lower()
        if odd or (place and token[0].isupper()):
            found.append(token)
    return found


def _script(text: str) -> str:
    for character in text:
        if character.isalpha():
            return unicodedata.name(character, "?").partition(" ")[0] if not character.isascii() else "LATIN"
    return ""


def _language(words: frozenset[str]) -> str:
    counts = {language: len(words & known) for language, known in _WORDS_OF.items()}
    best = max(counts, key=lambda each: counts[each])
    others = [count for language, count in counts.items() if language != best]
    return best if counts[best] >= 2 and counts[best] > max(others) else ""
