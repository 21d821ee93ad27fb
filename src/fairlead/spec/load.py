"""From a file to a UseCase, or to every problem in it at once."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from fairlead.spec import checks, translate, yaml_source
from fairlead.spec.model import UseCase
from fairlead.spec.problems import Problem, SpecError

FILE_NAME = "fairlead.yaml"
MAX_PROBLEMS = 100


def load(path: Path) -> UseCase:
    """Reads the use case at ``path`` (the file, or the folder that holds ``fairlead.yaml``).

    Raises SpecError with everything there is to mend.
    """
    if path.is_dir():
        path = path / FILE_NAME
    try:
        with path.open("rb") as file:
            text = file.read(yaml_source.MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = Problem(
            file=str(path),
            found=f"no file that can be read ({reason})",
            expected="a use case; `fairlead init` writes one",
        )
        raise SpecError(file=str(path), problems=[problem]) from error
    return parse(text, file=str(path), base=path.parent)


def parse(text: str | bytes, *, file: str = FILE_NAME, base: Path | None = None) -> UseCase:
    """Parses ``text``; ``file`` is the name shown in problems.

    Paths are relative to ``base``; when it is None nothing is looked up on disk. Raises SpecError, and nothing else.
    """
    source = yaml_source.read(text, file)
    if source.data is None:
        raise SpecError(file=file, problems=source.problems)
    checks.fill(source.data)
    problems = list(source.problems)
    usecase = None
    try:
        usecase = UseCase.model_validate_json(json.dumps(source.data))
    except ValidationError as error:
        problems += translate.problems_of(error, UseCase, source)
    problems += checks.check(source, base)
    # What stands in for a value that could not be read is not what the file says.
    unread = {(each.line, each.column, each.key) for each in source.problems}
    guessed = [each for each in problems[len(source.problems) :] if (each.line, each.column, each.key) in unread]
    problems = [each for each in problems if each not in guessed]
    if problems or usecase is None:
        raise SpecError(file=file, problems=_distinct(problems))
    usecase.bind(base or Path())
    return usecase


def _distinct(problems: list[Problem]) -> list[Problem]:
    """Without a second problem of the same words at the same place, and not more than a person can read."""
    unique = sorted(set(problems))
    if len(unique) <= MAX_PROBLEMS:
        return unique
    more = Problem(
        file=unique[0].file,
        line=unique[MAX_PROBLEMS].line,
        column=1,
        found="more problems than are listed",
        expected="these to be mended first",
    )
    return [*unique[:MAX_PROBLEMS], more]
