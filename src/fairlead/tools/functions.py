"""Typed Python functions as tools: the signature becomes the JSON schema, the docstring the description.

A parameter of the type ``Customer`` or ``Context`` is filled in by the caller and stands in no schema.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic

from fairlead.errors import ToolsInvalid
from fairlead.tools import Context, Customer, Rule
from fairlead.tools.arguments import NOT_USABLE, ArgumentsWrong, decode

MAX_TEXT = 2_000
"""Characters of one text argument."""


class MissingCustomer(Exception):
    """A tool that is only for a known customer was called without one."""


class FunctionTool:
    """One function, the schema of its arguments and its rule."""

    def __init__(self, function: Callable[..., Any], path: Path) -> None:
        self.name = function.__name__
        self.title = self.name.replace("_", " ").capitalize()
        self.description = " ".join((inspect.getdoc(function) or "").split())
        if not self.description:
            raise ToolsInvalid(path=path, detail=f"{self.name} has no docstring; write what it does and when to use it")
        self._function = function
        fields, self._given = _parameters(function, path)
        rule: Rule = getattr(function, "__fairlead__", Rule())
        self.rule = dataclasses.replace(rule, customer=rule.customer or Customer in self._given.values())
        self._arguments = _model(function, fields, path)
        schema = self._arguments.model_json_schema()
        schema.pop("title", None)
        for part in schema.get("properties", {}).values():
            part.pop("title", None)
        self.parameters: dict[str, Any] = schema

    def read(self, arguments: str | dict[str, Any]) -> dict[str, Any]:
        """The arguments that are given, checked, as JSON data. Raises ArgumentsWrong."""
        try:
            checked = self._arguments.model_validate(decode(arguments))
        except pydantic.ValidationError as error:
            found = [(".".join(map(str, each["loc"])) or "arguments", each["msg"]) for each in error.errors()]
            known = {name: field.description for name, field in self._arguments.model_fields.items()}
            names = dict.fromkeys(known.get(name) or name for name, _ in found)
            detail = "; ".join(f"{name}: {message}" for name, message in found)
            raise ArgumentsWrong(NOT_USABLE.format(names="; ".join(names)), detail) from error
        return checked.model_dump(mode="json", exclude_unset=True)

    def run(self, arguments: dict[str, Any], context: Context) -> Any:
        """Call the function with checked arguments. Raises MissingCustomer without the customer it needs."""
        checked = self._arguments.model_validate(arguments)
        values = {name: getattr(checked, name) for name in type(checked).model_fields}
        for name, kind in self._given.items():
            if kind is Customer and context.customer is None:
                raise MissingCustomer(f"{self.name} is only for a known customer")
            values[name] = context.customer if kind is Customer else context
        return self._function(**values)


def load_functions(path: Path) -> list[FunctionTool]:
    """The public functions of a Python file (those in ``__all__`` where there is one), in order. Runs the file.

    Raises ToolsInvalid for a file that is missing or does not run, and a function without docstring or type hints.
    """
    return [FunctionTool(function, path) for function in _functions(_run_file(path))]


def _parameters(function: Callable[..., Any], path: Path) -> tuple[dict[str, Any], dict[str, type]]:
    """(fields of the schema, parameters filled in by the caller with their type)."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolsInvalid(
            path=path, detail=f"the type hints of {function.__name__} cannot be read ({error})"
        ) from error
    fields: dict[str, Any] = {}
    given: dict[str, type] = {}
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter {parameter.name} of {function.__name__}"
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise ToolsInvalid(
                path=path, detail=f"{where} must have a name of its own; *args, **kwargs and / are not possible"
            )
        if parameter.name not in hints:
            raise ToolsInvalid(path=path, detail=f"{where} has no type hint; write for example `{parameter.name}: str`")
        if hints[parameter.name] in (Customer, Context):
            given[parameter.name] = hints[parameter.name]
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    return fields, given


def _model(function: Callable[..., Any], fields: dict[str, Any], path: Path) -> type[pydantic.BaseModel]:
    config = pydantic.ConfigDict(extra="forbid", str_max_length=MAX_TEXT)
    try:
        return pydantic.create_model(function.__name__, __config__=config, **fields)
    except (pydantic.errors.PydanticUserError, TypeError, NameError) as error:
        raise ToolsInvalid(path=path, detail=f"a type of {function.__name__} cannot be described ({error})") from error


def _run_file(path: Path) -> ModuleType:
    name = f"fairlead_project.{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ToolsInvalid(path=path, detail="it is not a Python file; check `tools:` in fairlead.yaml")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ToolsInvalid(path=path, detail=f"it does not run: {type(error).__name__}: {error}") from error
    return module


def _functions(module: ModuleType) -> list[Callable[..., Any]]:
    listed = getattr(module, "__all__", None)
    names = list(listed) if listed is not None else [name for name in vars(module) if not name.startswith("_")]
    found = [getattr(module, name, None) for name in names]
    return [each for each in found if inspect.isfunction(each) and each.__module__ == module.__name__]
