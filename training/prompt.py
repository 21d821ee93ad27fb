"""The one prompt shape of `mini`: ChatML, sources in the system turn, tools as one line each, Hermes-style calls.

Pure text: no torch, no tokenizer. Training writes its documents with `render`; at run time the same shape comes from
`CHAT_TEMPLATE`, which the exported GGUF carries, when a caller sends ordinary OpenAI messages and tools. A test holds
the two together. The runtime owes two things: the passages belong into the system message through `system_text`, and
text from outside goes through `defuse`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
CALL_START = "<tool_call>"
CALL_END = "</tool_call>"
PAD = "<|pad|>"
MARKERS = (PAD, TURN_START, TURN_END, CALL_START, CALL_END)

CHAT_TEMPLATE = """\
{%- if messages[0].role == 'system' -%}
{%- set system = messages[0].content -%}{%- set rest = messages[1:] -%}
{%- else -%}
{%- set system = '' -%}{%- set rest = messages -%}
{%- endif -%}
{{- '<|im_start|>system\\n' + system -}}
{%- if tools -%}
{{- '\\n\\nTools:' -}}
{%- for tool in tools -%}
{%- set function = tool.function -%}
{%- set required = function.parameters.required or [] -%}
{{- '\\n' + function.name + '(' -}}
{%- for name, schema in (function.parameters.properties or {}).items() -%}
{{- name + ('' if name in required else '?') + ': ' + (schema.type or 'string') -}}
{%- if not loop.last -%}{{- ', ' -}}{%- endif -%}
{%- endfor -%}
{{- ') - ' + (function.description or '') -}}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- for message in rest -%}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') -}}
{%- for call in message.tool_calls or [] -%}
{%- set arguments = call.function.arguments -%}
{{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' -}}
{{- arguments if arguments is string else arguments | tojson -}}
{{- '}</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""

_MARKER = re.compile("|".join(re.escape(marker) for marker in MARKERS))


@dataclass(frozen=True)
class Argument:
    name: str
    type: str = "string"
    required: bool = True


@dataclass(frozen=True)
class Tool:
    name: str
    description: str
    arguments: tuple[Argument, ...]

    def as_openai(self) -> dict[str, Any]:
        """The `tools` entry of the OpenAI chat API."""
        parameters = {
            "type": "object",
            "properties": {argument.name: {"type": argument.type} for argument in self.arguments},
            "required": [argument.name for argument in self.arguments if argument.required],
        }
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class Turn:
    """One message. The last four say how an assistant turn is judged; they are never part of the text.

    `skill` names what the turn shows, `facts` must all stand in a right answer, `accept` is a pattern it must match,
    `source` is the sentence that the answer rests on.
    """

    role: Role
    text: str
    skill: str = ""
    facts: tuple[str, ...] = ()
    accept: str = ""
    source: str = ""


@dataclass(frozen=True)
class Document:
    """A whole conversation: the shop's instruction, its passages and tools, then the turns."""

    instruction: str
    passages: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    turns: tuple[Turn, ...] = field(default=())


def defuse(text: str) -> str:
    """`text` without the model's own markers, so that a customer or a page cannot open a turn or a tool call.

    Repeats until nothing is left: removing a marker may join its neighbours into a new one.
    """
    while _MARKER.search(text):
        text = _MARKER.sub("", text)
    return text


def system_text(instruction: str, passages: Sequence[str] = ()) -> str:
    """The content of the system message: the instruction, then the numbered passages."""
    if not passages:
        return instruction
    lines = "\n".join(f"[{number}] {passage}" for number, passage in enumerate(passages, start=1))
    return f"{instruction}\n\nSources:\n{lines}"


def tool_line(tool: Tool) -> str:
    """`name(argument: type, optional?: type) - description`: a third of the tokens of a JSON schema."""
    arguments = ", ".join(f"{a.name}{'' if a.required else '?'}: {a.type}" for a in tool.arguments)
    return f"{tool.name}({arguments}) - {tool.description}"


def call_text(name: str, arguments: Mapping[str, Any]) -> str:
    """A Hermes-style tool call, as the assistant writes it."""
    return f'{CALL_START}{{"name": "{name}", "arguments": {json.dumps(dict(arguments), ensure_ascii=False)}}}{CALL_END}'


def split_turns(document: Document) -> list[tuple[Role, str]]:
    """All turns with their text, the system turn first."""
    system = system_text(document.instruction, document.passages)
    if document.tools:
        system += "\n\nTools:" + "".join(f"\n{tool_line(tool)}" for tool in document.tools)
    return [("system", system), *((turn.role, turn.text) for turn in document.turns)]


def render(document: Document, upto: int | None = None) -> str:
    """The text of `document`; with `upto`, its first `upto` turns followed by an opened assistant turn."""
    turns = split_turns(document)
    if upto is not None:
        turns = turns[: 1 + upto]
    text = "".join(f"{TURN_START}{role}\n{content}{TURN_END}\n" for role, content in turns)
    return text if upto is None else f"{text}{TURN_START}assistant\n"


def as_messages(document: Document, upto: int) -> list[dict[str, Any]]:
    """OpenAI messages for the first `upto` turns: what the runtime sends to reproduce `render(document, upto)`."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system_text(document.instruction, document.passages)}
    ]
    for number, turn in enumerate(document.turns[:upto]):
        call = parse_call(turn.text) if turn.role == "assistant" else None
        if call is None:
            message: dict[str, Any] = {"role": turn.role, "content": turn.text}
            if turn.role == "tool":
                message["tool_call_id"] = f"call_{number - 1}"
        else:
            function = {"name": call[0], "arguments": json.dumps(call[1], ensure_ascii=False)}
            entry = {"id": f"call_{number}", "type": "function", "function": function}
            message = {"role": "assistant", "content": "", "tool_calls": [entry]}
        messages.append(message)
    return messages


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """Name and arguments of the first tool call in `text`; None when there is none or it is broken."""
    start = text.find(CALL_START)
    if start < 0:
        return None
    body = text[start + len(CALL_START) :].split(CALL_END, 1)[0]
    try:
        call = json.loads(body)
    except json.JSONDecodeError:
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments")
    return (call["name"], arguments) if isinstance(arguments, dict) else None
