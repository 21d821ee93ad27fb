"""Whole conversations: a user who answers back, scripted or played by a model, in front of any candidate.

The script stands in the sample (``fields["then"]``: what the user says next, whatever is answered); a model plays the
user from a goal (``fields["goal"]``) and ends with a word of its own. The answer that is scored is everything the
candidate said, its last message last. Knows no scorer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fairlead.errors import UpstreamBroken
from fairlead.evaluate.candidates import Ask, context, principal
from fairlead.evaluate.scorers import Answer
from fairlead.gateway import Gateway
from fairlead.records import Sample, Turn

THEN, GOAL = "then", "goal"
END = "[END]"
MOST_TURNS = 8
_PLAY = (
    "You play a customer who writes to a support chat. Your goal: {goal}\n"
    "Write only the customer's next message, short and plain. When your goal is reached, or clearly cannot be, write "
    f"{END} and nothing else."
)

Simulator = Callable[[Sample, list[Turn]], Awaitable[str]]
"""(sample, what was said so far) to the user's next message; empty when the user is done."""


async def scripted(sample: Sample, said: list[Turn]) -> str:
    """The next message of the sample's script."""
    script = sample.fields.get(THEN)
    place = sum(turn.role == "user" for turn in said) - 1
    if not isinstance(script, list) or place >= len(script):
        return ""
    return str(script[place])


def played(gateway: Gateway, model: str) -> Simulator:
    """A user played by ``model``, the name of a route, from the goal of each sample; without a goal it says nothing."""

    async def play(sample: Sample, said: list[Turn]) -> str:
        goal = sample.fields.get(GOAL)
        if not isinstance(goal, str) or not goal:
            return ""
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
        return "" if END in text else text.strip()

    return play


def conversing(ask: Ask, simulator: Simulator = scripted, *, most: int = MOST_TURNS) -> Ask:
    """``ask`` for whole conversations: goes on while the user does, at most ``most`` messages of the user."""

    async def converse(sample: Sample, epoch: int) -> Answer:
        said = [Turn(role="user", text=sample.input)]
        answers = [await ask(sample, epoch)]
        while len(answers) < most:
            said.append(Turn(role="assistant", text=answers[-1].text))
            following = await simulator(sample, said)
            if not following:
                break
            now = msgspec.structs.replace(sample, input=following, earlier=(*sample.earlier, *said))
            said.append(Turn(role="user", text=following))
            answers.append(await ask(now, epoch))
        return _whole(answers)

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
