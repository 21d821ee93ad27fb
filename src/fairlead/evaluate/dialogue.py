"""Whole conversations: a user who answers back, scripted or played by a model, in front of any candidate.

The script stands in the sample (``fields["then"]``: what the user says next, whatever is answered); a model plays the
user from a goal (``fields["goal"]``) and ends with a word of its own. The answer that is scored is everything the
candidate said, its last message last. Knows no scorer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fairlead.errors import ServiceError, UpstreamBroken
from fairlead.evaluate.candidates import Ask, context, principal
from fairlead.evaluate.purse import Costs, Price, cost_of
from fairlead.evaluate.scorers import Answer
from fairlead.gateway import Gateway
from fairlead.gateway.usage import tokens_of
from fairlead.records import Sample, Turn

THEN, GOAL = "then", "goal"
END = "[END]"
MOST_TURNS = 8
PAID = "paid_nanos"
"""Detail of an error: what the conversation it ended has cost."""
_PLAY = (
    "You play a customer who writes to a support chat. Your goal: {goal}\n"
    "Write only the customer's next message, short and plain. When your goal is reached, or clearly cannot be, write "
    f"{END} and nothing else."
)


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What the user says next, empty when the user is done, and what it cost to find out; None is unknown."""

    text: str = ""
    cost_nanos: int | None = 0


Simulator = Callable[[Sample, list[Turn]], Awaitable[Heard]]
"""(sample, what was said so far) to the user's next message."""


async def scripted(sample: Sample, said: list[Turn]) -> Heard:
    """The next message of the sample's script."""
    script = sample.fields.get(THEN)
    place = sum(turn.role == "user" for turn in said) - 1
    if not isinstance(script, list) or place >= len(script):
        return Heard()
    return Heard(text=str(script[place]))


def calls_of(sample: Sample) -> int:
    """How often a candidate may be asked in the conversation of a sample."""
    script = sample.fields.get(THEN)
    if sample.fields.get(GOAL):
        return MOST_TURNS
    return min(MOST_TURNS, 1 + len(script)) if isinstance(script, list) else 1


def costs_of_playing(price: Price | None, longest: int) -> Costs:
    """What one message of a model that plays the user may cost."""
    return Costs(price=price, prompt=len(_PLAY), longest=longest)


def played(gateway: Gateway, model: str, price: Price | None = None) -> Simulator:
    """A user played by ``model``, the name of a route, from the goal of each sample; without a goal it says nothing."""

    async def play(sample: Sample, said: list[Turn]) -> Heard:
        goal = sample.fields.get(GOAL)
        if not isinstance(goal, str) or not goal:
            return Heard()
        # Roles are swapped: for the model that plays the customer, the assistant is the one who writes to it.
        seen = [{"role": "user" if turn.role == "assistant" else "assistant", "content": turn.text} for turn in said]
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "system", "content": _PLAY.format(goal=goal)}, *seen],
        }
        answer = await gateway.complete(body, principal=principal(sample), context=context(sample))
        try:
            text = str(answer["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError) as error:
            raise UpstreamBroken(name=model, detail="its answer holds no message") from error
        cost = cost_of(price, tokens_of(answer.get("usage")))
        return Heard(text="" if END in text else text.strip(), cost_nanos=cost)

    return play


def conversing(ask: Ask, simulator: Simulator = scripted, *, most: int = MOST_TURNS) -> Ask:
    """``ask`` for whole conversations: goes on while the user does, at most ``most`` messages of the user."""

    async def converse(sample: Sample, epoch: int) -> Answer:
        said = [Turn(role="user", text=sample.input)]
        answers = [await ask(sample, epoch)]
        heard: list[int | None] = []
        try:
            while len(answers) < most:
                said.append(Turn(role="assistant", text=answers[-1].text))
                following = await simulator(sample, said)
                heard.append(following.cost_nanos)
                if not following.text:
                    break
                now = msgspec.structs.replace(sample, input=following.text, earlier=(*sample.earlier, *said))
                said.append(Turn(role="user", text=following.text))
                answers.append(await ask(now, epoch))
        except ServiceError as error:  # what was said before it has been paid for all the same
            error.details[PAID] = _sum([*heard, *(each.cost_nanos for each in answers)])
            raise
        return msgspec.structs.replace(_whole(answers), user_nanos=_sum(heard))

    return converse


def _whole(answers: list[Answer]) -> Answer:
    """One answer out of many: texts, documents and calls together, the first wait, all time, tokens and money."""
    last = answers[-1]
    if len(answers) == 1:
        return last
    return Answer(
        text="\n\n".join(each.text for each in answers),
        documents=tuple(dict.fromkeys(text for each in answers for text in each.documents)),
        retrieved=tuple(dict.fromkeys(name for each in answers for name in each.retrieved)),
        calls=tuple(call for each in answers for call in each.calls),
        act=last.act,
        first_token_s=answers[0].first_token_s,
        total_s=_sum([each.total_s for each in answers]),
        input_tokens=_sum([each.input_tokens for each in answers]),
        output_tokens=_sum([each.output_tokens for each in answers]),
        cost_nanos=_sum([each.cost_nanos for each in answers]),
    )


def _sum(values: list[Any]) -> Any:
    """The sum; None, unknown, where a part is."""
    return None if any(value is None for value in values) else sum(values)
