"""Samples from what happened: each answer of the assistant, with what people said about it.

The reference is what a person answered instead (a demonstration), nothing else: an answer that nobody complained about
is not thereby right. Texts were masked before they were stored. Knows the store, not the data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.records import Conversation, Feedback, Message, Sample, Turn
from fairlead.store import Store

PAGE = 200


def from_conversations(
    store: Store, *, since: int, until: int, tenant: str | None = None, only_demonstrations: bool = False
) -> Iterator[Sample]:
    """A sample for each customer's message that was answered in conversations opened at ``since <= time < until``.

    ``only_demonstrations`` leaves out those without a reference. Oldest conversation last.
    """
    before = None
    while page := store.conversations.list(since=since, until=until, tenant=tenant, limit=PAGE, before=before):
        for conversation in page:
            for sample in _of(store, conversation):
                if sample.reference is not None or not only_demonstrations:
                    yield sample
        before = page[-1].id


def _of(store: Store, conversation: Conversation) -> Iterator[Sample]:
    messages = store.conversations.messages(conversation.id)
    said: dict[str, list[Feedback]] = {}
    for each in store.feedback.of_conversation(conversation.id):
        said.setdefault(each.target, []).append(each)
    for place, message in enumerate(messages):
        answers = _answers(messages, place)
        if message.role != "user" or not message.text.strip() or not answers:
            continue
        about = [
            each
            for answer in (message, *answers)
            for key in (answer.id, answer.inference)
            for each in said.get(key, ())
        ]
        yield Sample(
            id=message.id,
            input=message.text,
            earlier=tuple(Turn(role=each.role, text=each.text) for each in messages[:place] if each.role != "system"),
            reference=_demonstrated(message, about),
            tags={"channel": conversation.channel, "language": conversation.language, "state": conversation.state},
            conversation=conversation.id,
            subject=conversation.subject,
            tenant=conversation.tenant,
            fields=_fields(answers, [*about, *said.get(conversation.id, ())]),
        )


def _answers(messages: list[Message], place: int) -> list[Message]:
    """What the assistant or a person said between this message and the customer's next."""
    answers = []
    for message in messages[place + 1 :]:
        if message.role == "user":
            break
        if message.role in ("assistant", "operator"):
            answers.append(message)
    return answers


def _demonstrated(message: Message, about: list[Feedback]) -> str | None:
    """The newest demonstration that answers this very message."""
    shown = [each for each in about if each.kind == "demonstration" and each.text]
    own = [each.text for each in shown if each.question == message.text] or [each.text for each in shown]
    return own[-1] if own else None


def _fields(answers: list[Message], said: list[Feedback]) -> dict[str, Any]:
    first = next((each for each in answers if each.role == "assistant"), None)
    values: dict[str, Any] = {"answer": first.text if first else answers[0].text, "inference": answers[0].inference}
    if first and first.sources:
        values["documents"] = [source.text for source in first.sources]
    rated: Mapping[str, float] = {each.kind: each.value for each in said if each.value is not None}
    return {**values, **rated}
