"""The input of a batch, line by line: what a line must be, and what is wrong with one that is not.

Reads one line at a time and keeps of each only where it begins, so a file of any size costs little memory. Knows
nothing of who answers; which models there are is passed in.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from fairlead.errors import ServiceError
from fairlead.gateway import body as bodies
from fairlead.gateway.fields import shorten
from fairlead.providers.base import Operation

ENDPOINTS: Mapping[str, Operation] = MappingProxyType(
    {"/v1/chat/completions": "chat", "/v1/completions": "completion", "/v1/embeddings": "embedding"}
)
MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 200 * 1024 * 1024
MOST_INPUTS: Final = 50_000
"""Texts to embed in all requests of a batch together."""
MOST_ERRORS: Final = 100
"""Errors told; there is no use in fifty thousand of a kind."""
LONGEST_ID: Final = 512
ASSUMED_OUTPUT: Final = 256
"""Tokens an answer is taken to have, in an estimate, when its request sets no limit."""
_CHARS_PER_TOKEN, _TOKENS_PER_MESSAGE = 4, 4
_BOM = b"\xef\xbb\xbf"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one batch may hold."""

    requests: int = MOST_REQUESTS
    bytes: int = MOST_BYTES
    line_bytes: int = 4_194_304
    depth: int = 64


class Request(msgspec.Struct, frozen=True):
    """One line: the client's name for it, and the body as it would be posted."""

    custom_id: str
    body: dict[str, Any]


class Inspected(msgspec.Struct, kw_only=True):
    """What a whole input is. ``errors`` are as the API shows them; empty: it can run."""

    total: int = 0
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    errors: list[dict[str, Any]] = []

    def fail(self, code: str, message: str, *, line: int | None = None, param: str | None = None) -> None:
        """Note an error; of very many only the first."""
        if len(self.errors) < MOST_ERRORS:
            self.errors.append({"code": code, "line": line, "message": message, "param": param})


class Input:
    """A JSONL file and where its requests begin. ``read`` gives one; numbers count requests from 0."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path = path
        self._file = path.open("rb")
        self._limits = limits
        self._starts = array("Q")

    def __len__(self) -> int:
        return len(self._starts)

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Every line that is not blank, with its number in the file from 1; afterwards ``read`` can find them."""
        self._starts = array("Q")
        self._file.seek(0)
        number, start = 0, 0
        while raw := self._file.readline(self._limits.line_bytes + 3):
            number += 1
            end = start + len(raw)
            if number == 1:
                raw = raw.removeprefix(_BOM)
            if raw.strip():
                self._starts.append(start)
                yield number, raw.rstrip(b"\r\n")
            while not raw.endswith(b"\n") and (raw := self._file.readline(1 << 20)):  # the rest of a line too long
                end += len(raw)
            start = end

    def read(self, number: int) -> Request:
        """The request with this number, of an input that was found sound."""
        self._file.seek(self._starts[number])
        line = msgspec.json.decode(self._file.readline().removeprefix(_BOM))
        return Request(line["custom_id"], line["body"])

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._file.close()


class Inspector:
    """Takes the lines of an input and finds out whether it can run. ``refuse_model`` raises for one that cannot."""

    def __init__(self, endpoint: str, limits: Limits, refuse_model: Callable[[str], None]) -> None:
        self.found = Inspected()
        self._endpoint = endpoint
        self._operation = ENDPOINTS[endpoint]
        self._limits = limits
        self._refuse_model = refuse_model
        self._ids: set[str] = set()
        self._inputs = 0
        self._lost = False

    def take(self, number: int, raw: bytes) -> None:
        """Look at one line."""
        if self._lost:  # no line of it can be read
            return
        self.found.total += 1
        if self.found.total > self._limits.requests:
            if self.found.total == self._limits.requests + 1:
                limit = self._limits.requests
                self.found.fail("too_many_requests", f"A batch holds at most {limit} requests. Split the file.")
            return
        line = self._decode(number, raw)
        if line is not None and self._check_envelope(number, line):
            self._check_body(number, line["body"])

    def end(self) -> Inspected:
        """What the whole input is."""
        if not self.found.total:
            self.found.fail("empty_file", "The input file is empty. Expected one JSON object a line.")
        if self._inputs > MOST_INPUTS:
            detail = f"The batch embeds {self._inputs} texts; at most {MOST_INPUTS} are possible. Split the file."
            self.found.fail("too_many_inputs", detail)
        return self.found

    def _decode(self, number: int, raw: bytes) -> dict[str, Any] | None:
        if len(raw) > self._limits.line_bytes:
            detail = f"This line has more than {self._limits.line_bytes} bytes."
            self.found.fail("line_too_long", detail, line=number)
            return None
        if number == 1 and raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            self.found.fail("invalid_encoding", "The file is UTF-16. Save it as UTF-8.", line=number)
            self._lost = True
            return None
        try:
            return bodies.decode(raw, max_depth=self._limits.depth + 1)
        except ServiceError as error:
            detail = str(error).replace("The request body", "This line")
            self.found.fail("invalid_json_line", detail, line=number)
            return None

    def _check_envelope(self, number: int, line: dict[str, Any]) -> bool:
        fail = self.found.fail
        identifier, method, url, body = (line.get(name) for name in ("custom_id", "method", "url", "body"))
        before = len(self.found.errors)
        if not isinstance(identifier, str) or not 0 < len(identifier) <= LONGEST_ID:
            detail = f"custom_id is {shorten(identifier)}; expected a text of 1 to {LONGEST_ID} characters."
            code = "missing_required_parameter" if identifier is None else "invalid_custom_id"
            fail(code, detail, line=number, param="custom_id")
        elif identifier in self._ids:
            detail = f"The custom_id {shorten(identifier)} was used before. It must be unique in the batch."
            fail("duplicate_custom_id", detail, line=number, param="custom_id")
        else:
            self._ids.add(identifier)
        if method != "POST":
            fail("invalid_method", f"method is {shorten(method)}; expected 'POST'.", line=number, param="method")
        if url != self._endpoint:
            detail = f"url is {shorten(url)}; this batch's endpoint is {self._endpoint!r}."
            fail("invalid_url", detail, line=number, param="url")
        if not isinstance(body, dict):
            detail = f"body is {shorten(body)}; expected a JSON object."
            code = "missing_required_parameter" if body is None else "invalid_body"
            fail(code, detail, line=number, param="body")
        return len(self.found.errors) == before and before < MOST_ERRORS

    def _check_body(self, number: int, body: dict[str, Any]) -> None:
        fail = self.found.fail
        try:
            bodies.check(body, self._operation)
        except ServiceError as error:
            param = error.details.get("param")
            fail(error.code, str(error), line=number, param=f"body.{param}" if param else "body")
            return
        if body.get("stream"):
            fail(
                "invalid_value", "A batch has nobody to stream to. Leave stream out.", line=number, param="body.stream"
            )
        model = body["model"]
        if not self.found.model:
            self.found.model = model
            try:
                self._refuse_model(model)
            except ServiceError as error:
                fail(error.code, str(error), line=number, param="body.model")
        elif model != self.found.model:
            detail = f"The model {shorten(model)} is not that of the lines before. A batch asks one model."
            fail("mismatched_model", detail, line=number, param="body.model")
        self._estimate(body)

    def _estimate(self, body: dict[str, Any]) -> None:
        if self._operation == "embedding":
            given = body.get("input")
            self._inputs += len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
            self.found.input_tokens += _tokens(given)
            return
        if self._operation == "chat":
            messages = body.get("messages") or []
            self.found.input_tokens += sum(_TOKENS_PER_MESSAGE + _tokens(each.get("content")) for each in messages)
        else:
            self.found.input_tokens += _tokens(body.get("prompt"))
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        self.found.output_tokens += (most or ASSUMED_OUTPUT) * (body.get("n") or 1)


def _tokens(value: Any) -> int:
    """About how many tokens a text, a list of texts or parts, or a list of token numbers has."""
    if isinstance(value, str):
        return -(-len(value) // _CHARS_PER_TOKEN)
    if isinstance(value, dict):
        return _tokens(value.get("text"))
    if isinstance(value, list):
        return sum(1 if isinstance(item, int) else _tokens(item) for item in value)
    return 0
