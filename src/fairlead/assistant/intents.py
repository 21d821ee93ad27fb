"""Routing by intent: what a message is about, learnt from the project's own examples, and who should take it.

The classifier is the embedder's (``engines/embed/intents``); here are the file of examples, when it is sure enough to
be acted on, and the name that goes into the records, so that objectives and pages can be cut by it. Decides nothing
that cannot be undone: a message is handed to a person, or answered as any other.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from fairlead.assistant.knowledge import Cache
from fairlead.engines.embed import intents as classifier
from fairlead.engines.embed.embedder import shared
from fairlead.errors import IntentsInvalid
from fairlead.spec import Routing

SURE: Final = 0.6
"""Probability from which an intent takes a message away from the assistant; a wrong hand-over costs a person's time."""
OTHER: Final = "other"
"""What a message that fits no intent is recorded as."""
FEWEST: Final = 5
"""Examples an intent needs."""
VERSION: Final = 1
"""Counts up when the same examples give another classifier."""


class _Example(msgspec.Struct, frozen=True):
    text: str
    intent: str


class Router:
    """Guesses intents. Without examples it knows none. Thread-safe; fitted at the first guess.

    ``digest`` is the SHA-256 of what decides its guesses, for the release.
    """

    def __init__(
        self,
        examples: Sequence[_Example] = (),
        to_person: Sequence[str] = (),
        digest: str = "",
        cache: Cache | None = None,
    ) -> None:
        self.digest = digest
        self._examples = tuple(examples)
        self._to_person = frozenset(to_person)
        self._cache = cache
        self._fitted: classifier.Intents | None = None
        self._making = threading.Lock()

    @classmethod
    def load(cls, routing: Routing | None, path: Path | None, cache: Cache | None = None) -> Router:
        """The router of a use case's ``routing``, whose examples are in ``path``. Raises IntentsInvalid."""
        if routing is None or path is None:
            return cls()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise IntentsInvalid(path=path, detail=f"the file cannot be read ({error.strerror})") from error
        examples = tuple(_read(path, data))
        counts = Counter(example.intent for example in examples)
        rare = [intent for intent, count in sorted(counts.items()) if count < FEWEST]
        if len(counts) < 2:
            raise IntentsInvalid(path=path, detail=f"there is {len(counts)} intent; two or more are needed")
        if rare:
            raise IntentsInvalid(path=path, detail=f"{', '.join(rare)} has fewer than {FEWEST} examples")
        unknown = [name for name in routing.to_person if name not in counts]
        if unknown:
            choices = ", ".join(sorted(counts))
            detail = f"`to_person` names {', '.join(unknown)}, which has no examples; there are {choices}"
            raise IntentsInvalid(path=path, detail=detail)
        digest = hashlib.sha256(f"{VERSION}\n{sorted(routing.to_person)}\n".encode() + data).hexdigest()
        return cls(examples, routing.to_person, digest, cache)

    @property
    def ready(self) -> bool:
        """Whether a guess takes no longer than a tenth of a millisecond or two."""
        return self._fitted is not None or not self._examples

    def guess(self, text: str) -> tuple[str, bool]:
        """(the intent of a message, whether a person should take it); an empty name when there are no examples."""
        if not self._examples:
            return "", False
        guess = self._classifier.guess(text, shared())
        if not guess.known:
            return OTHER, False
        return guess.intent, guess.intent in self._to_person and guess.odds >= SURE

    @property
    def _classifier(self) -> classifier.Intents:
        with self._making:
            if self._fitted is None:
                self._fitted = self._recall() or self._fit()
        return self._fitted

    def _recall(self) -> classifier.Intents | None:
        data = self._cache.get(self._key) if self._cache is not None else None
        try:
            return classifier.Intents.decode(data) if data is not None else None
        except ValueError:
            return None  # damaged: it is fitted anew

    def _fit(self) -> classifier.Intents:
        texts = [example.text for example in self._examples]
        fitted = classifier.Intents.fit(texts, [example.intent for example in self._examples], shared())
        if self._cache is not None:
            self._cache.put(self._key, fitted.encode())
        return fitted

    @property
    def _key(self) -> str:
        return hashlib.sha256(f"intents {self.digest} {shared().digest}".encode()).hexdigest()


def _read(path: Path, data: bytes) -> list[_Example]:
    found = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            example = msgspec.json.decode(line, type=_Example)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise IntentsInvalid(path=path, detail=f"line {number}: {error}") from error
        if not example.text.strip() or not example.intent.strip():
            raise IntentsInvalid(path=path, detail=f"line {number} has an empty text or intent")
        found.append(example)
    return found
