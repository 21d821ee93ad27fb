"""Tools of a use case: where they are, and the rules that hold for them beside what they declare themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from fairlead.secret import REFERENCE
from fairlead.spec.part import Part, RelativePath


class ToolCap(Part):
    """The most a tool may do by itself."""

    argument: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="The argument that counts.")
    max: float = Field(
        ge=0, description="The most it may come to for one customer; more waits for a person's approval."
    )
    hours: float = Field(default=24.0, gt=0, le=8_760, description="Within how many hours it is added up.")


class ToolRule(Part):
    """What a tool does, and what must come before it. What is not said here is as the tool declares it."""

    effect: Literal["reads", "writes"] | None = Field(
        default=None, description="Whether it only reads, or changes something and needs the customer's yes."
    )
    ask: str = Field(
        default="", max_length=300, description="The question before it runs, with arguments in braces: {order_id}."
    )
    check: str = Field(default="", max_length=64, description="A reading tool that is called before the question.")
    cap: ToolCap | None = Field(default=None, description="The most it may do without a person's approval.")
    customer: bool = Field(default=False, description="Only for a known customer.")
    identifies: bool = Field(default=False, description="Its result may say who the customer is.")
    hidden: bool = Field(default=False, description="Not offered to models.")
    bind: dict[Annotated[str, Field(min_length=1, max_length=64)], Literal["id", "email", "name"]] = Field(
        default={}, description="Arguments taken from the known customer instead of from the model."
    )


class Tools(Part):
    """What the assistant may call: a file of functions, or an MCP server. One of path, command and url."""

    path: RelativePath | None = Field(default=None, description="A Python file with typed functions.")
    command: tuple[Annotated[str, Field(min_length=1, max_length=1_000)], ...] = Field(
        default=(), max_length=50, description="An MCP server to start: program and arguments, without a shell."
    )
    url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2_000)] | None = Field(
        default=None, description="An MCP server at an address (streamable HTTP)."
    )
    trusted: bool = Field(
        default=False,
        description="Whether what the MCP server says of its tools counts, and it is told who the customer is.",
    )
    secrets: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=100)],
        Annotated[str, Field(pattern=REFERENCE, max_length=500)],
    ] = Field(
        default={},
        description="Environment of the command or headers of the url, as env:NAME, file:PATH or keyring:SERVICE/NAME.",
    )
    rules: dict[Annotated[str, Field(min_length=1, max_length=64)], ToolRule] = Field(
        default={}, max_length=128, description="Rules for tools, by name."
    )

    @model_validator(mode="after")
    def _check_one(self) -> Tools:
        if sum(map(bool, (self.path, self.command, self.url))) != 1:
            raise PydanticCustomError("target", "{expected}", {"expected": "one of path, command and url", "near": ""})
        return self
