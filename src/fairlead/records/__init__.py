"""What happened: immutable facts, each with the hash of the spec and of the release that produced it.

Every record carries ``tenant`` (whose traffic) and ``subject`` (whose personal data, a pseudonym); times are
microseconds since the Unix epoch in UTC, money is whole nano-dollars, ids are UUIDv7. Records know nothing of how
they are stored.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
import uuid_utils

Operation = Literal["chat", "completion", "embedding", "assistant", "request"]
Role = Literal["user", "assistant", "operator", "system", "tool"]
ConversationState = Literal["open", "waiting", "with_person", "closed"]
ReleaseState = Literal["proposed", "shadow", "canary", "live", "retired"]
FeedbackKind = Literal["thumb", "comment", "csat", "solved", "demonstration"]
Outcome = Literal["pass", "fail", "not_enough_data"]
Priority = Literal["interactive", "standard", "batch"]
"""Who goes first where a model is busy: people who wait, then programs, then work without haste."""
ActionState = Literal[
    "proposed",
    "confirmed",
    "running",
    "done",
    "failed",
    "unknown",
    "declined",
    "expired",
    "awaiting_approval",
    "rejected",
]
"""Where an action stands: ``proposed`` waits for the customer's yes, ``awaiting_approval`` for a person of the team,
``unknown`` was begun and nobody knows how it ended. From ``done`` on nothing leads further, but ``unknown`` can be
settled by a person."""

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
"""As in OpenAI's API. ``failed``: the input could not be used; single requests that failed leave it ``completed``."""


def new_id() -> str:
    """A fresh UUIDv7 (RFC 9562): sorts by creation time, so an id also says when."""
    return str(uuid_utils.uuid7())


def now_us() -> int:
    """Microseconds since the Unix epoch, UTC."""
    return time.time_ns() // 1000


def time_of(identifier: str) -> int:
    """The creation time inside a UUIDv7, in microseconds (millisecond resolution). Raises ValueError for another id."""
    digits = identifier.replace("-", "")
    if len(digits) != 32 or digits[12] != "7":
        raise ValueError(identifier)
    return int(digits[:12], 16) * 1000


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The columns every record has."""

    id: str
    time: int
    tenant: str
    subject: str
    usecase: str
    spec_hash: str
    release: str


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A passage an answer rests on. ``title`` is shown, ``location`` is the path or URL with a fragment."""

    id: str
    title: str
    location: str
    text: str


class KeptAnswer(msgspec.Struct, kw_only=True):
    """An answer that may be given again to who asks the same: the bytes of a body, or of a stream's events.

    ``key`` is an HMAC of all that was asked, ``parts`` shorter ones of each part of it, so that two questions can be
    compared without being kept. ``writer`` is the inference that made it, ``nanos`` and ``took_us`` what that cost;
    ``nanos`` is -1 where the price is unknown. ``text`` is the last message, kept only where likeness is looked at.
    """

    key: bytes
    tenant: str
    subject: str
    route: str
    release: str
    operation: str
    writer: str
    created: int
    expires: int
    stream: bool
    data: bytes
    finish: str
    nanos: int
    took_us: int
    parts: dict[str, bytes]
    frame: bytes = b""
    text: str = ""


class Inference(Record, frozen=True, kw_only=True):
    """One call of a model, or (operation ``assistant``) one answer of the assistant, parent of the calls it made.

    Where the assistant was asked through the API, ``request`` is the request's own row and parent of the answer. Only
    rows of the other operations count as model calls.

    ``steps`` are the timings of the request path, step name to microseconds, in order. ``input`` and ``output`` are
    JSON texts, masked; empty when content is not stored. ``cost`` is None when the price is unknown, never 0.
    """

    conversation: str = ""
    parent: str = ""
    request: str = ""
    key: str = ""
    operation: Operation = "chat"
    variant: str = ""
    provider: str = ""
    model: str = ""
    stream: bool = False
    status: int = 200
    error: str = ""
    finish: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: int | None = None
    first_token_us: int | None = None
    total_us: int = 0
    steps: dict[str, int] = {}
    input: str = ""
    output: str = ""
    tags: dict[str, str] = {}


class Conversation(Record, frozen=True, kw_only=True):
    """An episode. ``secret_hash`` proves that a returning browser is the one that opened it."""

    channel: str = "chat"
    language: str = ""
    state: ConversationState = "open"
    updated: int = 0
    turns: int = 0
    title: str = ""
    secret_hash: str = ""


class Message(Record, frozen=True, kw_only=True):
    """One utterance of a conversation, masked. ``inference`` leads to its trace."""

    conversation: str
    role: Role
    text: str
    sources: tuple[Source, ...] = ()
    inference: str = ""
    facts: dict[str, Any] = {}


class Feedback(Record, frozen=True, kw_only=True):
    """What someone said about an answer or a conversation. Append-only: the newest of an author wins when read.

    A demonstration is what a person answered instead: ``question`` is the customer's, ``text`` the answer, both masked.
    """

    target_kind: Literal["message", "inference", "conversation"]
    target: str
    kind: FeedbackKind
    value: float | None = None
    text: str = ""
    author: str = ""
    question: str = ""


class Handoff(Record, frozen=True, kw_only=True):
    """A request for a person, and what became of it.

    ``operator`` is the name a customer reads, ``operator_key`` the key of whoever holds it. It is held until ``lease``
    unless the holder says again that they are there; ``draft`` is what they typed and did not send. ``contact`` is an
    e-mail address the customer left for an answer, the only text here that is not masked. ``suggestion`` is a reply the
    assistant proposes: ``question`` (a message id), ``text``, ``sources``.
    """

    conversation: str
    reason: str = ""
    summary: str = ""
    state: Literal["waiting", "taken", "closed"] = "waiting"
    operator: str = ""
    operator_key: str = ""
    taken: int = 0
    lease: int = 0
    closed: int = 0
    outcome: Literal["", "resolved", "not_resolved", "no_answer", "spam", "returned", "withdrawn"] = ""
    note: str = ""
    draft: str = ""
    contact: str = ""
    suggestion: dict[str, Any] = {}


class ConversationOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation ended, each question a field of its own; None means that it cannot be known yet.

    ``id`` is the conversation's. ``due`` is when it has to be looked at again, ``again`` when its customer came back
    about the same matter (0: did not). The definitions are those of the metrics of these names.
    """

    id: str
    time: int
    tenant: str
    visitor: str = ""
    prompted: int = 0
    due: int = 0
    computed: int = 0
    turns: int = 0
    handed_over: bool = False
    reached_person: bool = False
    abandoned: bool | None = None
    contained: bool | None = None
    deflected: bool | None = None
    resolved: bool | None = None
    recontacted: bool | None = None
    again: int = 0
    confirmed: Literal["", "customer", "operator"] = ""
    ending: str = ""
    csat: float | None = None


class News(msgspec.Struct, frozen=True, kw_only=True):
    """That something happened in a conversation: ``sequence`` grows in the order of the commits of all processes.

    ``ref`` is the id of the message for the kind ``message``, of the hand-off for ``state``.
    """

    sequence: int
    time: int
    tenant: str
    conversation: str
    kind: Literal["message", "state"]
    ref: str = ""


class Release(Record, frozen=True, kw_only=True):
    """A frozen variant. ``id`` is the hash of ``content`` (canonical JSON) and equals ``release``."""

    variant: str
    content: str
    state: ReleaseState = "proposed"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message before the one in question."""

    role: str
    text: str


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One example of a data set: what is asked, what is known of the right answer, and whose it is.

    ``input`` is the last message, ``earlier`` what was said before. ``reference`` is what a right answer is or holds: a
    text, a label, texts, an object; None where nobody said. ``conversation`` and ``subject`` say what belongs together
    and whose personal data it is. ``fields`` is everything else of the row it came from.
    """

    id: str
    input: str
    earlier: tuple[Turn, ...] = ()
    reference: Any = None
    tags: dict[str, str] = {}
    conversation: str = ""
    subject: str = ""
    tenant: str = "default"
    fields: dict[str, Any] = {}


class DatasetVersion(Record, frozen=True, kw_only=True):
    """Samples frozen under the hash of their content, which is also the object that holds them.

    ``version`` counts from 1, ``parent`` is the content of the version before. ``lineage`` says where the samples come
    from and what was done to them; ``tags`` counts samples by tag and value.
    """

    name: str
    version: int
    purpose: Literal["train", "eval", "calibration"]
    content: str
    rows: int
    licence: str
    source: str = ""
    parent: str = ""
    lineage: dict[str, Any] = {}
    tags: dict[str, dict[str, int]] = {}


class Verdict(Record, frozen=True, kw_only=True):
    """An objective's outcome, from a confidence bound. ``release`` is empty where no release was judged.

    ``low`` and ``high`` are None where nothing can be said in that direction. ``needed`` is how many samples more would
    decide it if what was seen holds; None: decided, or no number would. ``excluded`` are samples without a value, such
    as failed calls. ``step`` says what asked: select, release, canary, monitor, tune.
    """

    objective: str
    step: str
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    n: int
    needed: int | None = None
    kind: Literal["goal", "guardrail"] = "goal"
    bound: str = ""
    confidence: float = 0.95
    slice: dict[str, str] = {}
    dataset: str = ""
    excluded: int = 0
    method: str = ""
    note: str = ""


class JudgeCalibration(Record, frozen=True, kw_only=True):
    """How well a judge agreed with people's labels, once. ``hash`` is the judge as it was: model, rubric, options.

    ``labels`` names what it was measured on, ``content`` is its hash, ``n`` the cases with a verdict and a label.
    ``figures`` are the findings, each share with its bounds; what they allow is decided when they are read.
    """

    judge: str
    hash: str
    kind: Literal["rubric", "pairwise"]
    labels: str
    content: str
    n: int
    figures: dict[str, Any] = {}


class Run(Record, frozen=True, kw_only=True):
    """One measurement of several variants on a data set.

    ``dataset`` is its name and version, ``content`` its hash. ``plan`` says what was to be done, ``report`` what came
    of it; both are the room's that ran it. ``cost`` is what the run itself paid for answers, None when some price is
    unknown. ``ended`` is 0 while it runs, or when it was killed.
    """

    step: str
    dataset: str
    content: str
    state: Literal["running", "done", "stopped", "failed"] = "running"
    ended: int = 0
    cost: int | None = 0
    plan: dict[str, Any] = {}
    report: dict[str, Any] = {}


class Answered(Record, frozen=True, kw_only=True):
    """What a variant made of a sample, kept so that nobody pays for it again.

    ``key`` is the hash of everything that decides the answer: the release, the sample's texts, the epoch. ``answer`` is
    the answer as the ruler reads it. With an ``error`` there is none, and it is asked again next time.
    """

    key: str
    variant: str
    sample: str
    epoch: int = 0
    error: str = ""
    answer: dict[str, Any] = {}


class Result(Record, frozen=True, kw_only=True):
    """What an answer was worth in a run: scorer name to its score. ``answered`` is the id of the answer.

    ``cached`` says that an earlier run had paid for it.
    """

    run: str
    variant: str
    sample: str
    answered: str
    epoch: int = 0
    cached: bool = False
    scores: dict[str, Any] = {}


class AuditEntry(Record, frozen=True, kw_only=True):
    """Who did what, when and why. ``previous`` is the hash of the entry before, so that a gap shows."""

    actor: str
    action: str
    resource: str
    reason: str = ""
    detail: dict[str, Any] = {}
    previous: str = ""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that may be asked for; None: no limit. Money is whole nano-dollars, days and months are those of UTC."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    nanos_per_day: int | None = None
    nanos_per_month: int | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An API key at rest: ``digest`` is the SHA-256 of the secret, which is shown once and never stored.

    ``models`` and ``operations`` are those it opens, all when empty. ``origin`` is the id of the key it replaces,
    directly or over others, else its own: limits and budgets are counted under it, so that rotating a key gives nothing
    anew.
    """

    id: str
    name: str
    prefix: str
    digest: str
    scopes: tuple[str, ...]
    tenant: str
    created: int
    revoked: int | None = None
    expires: int | None = None
    origin: str = ""
    models: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    priority: Priority = "standard"
    limits: Limits = Limits()


class Action(Record, frozen=True, kw_only=True):
    """Something a tool would change, from the question to the customer to its end. ``id`` is the idempotency key.

    ``rows`` are masked labels and values for people; ``arguments`` is a sealed text that only this store's secret
    opens. ``customer`` is a pseudonym of whose matter it is. ``amount`` is what a cap counts, None without one.
    ``actor`` moved it last, ``result`` is what came of it, masked.
    """

    conversation: str
    tool: str
    title: str
    rows: tuple[tuple[str, str], ...] = ()
    arguments: str = ""
    customer: str = ""
    amount: float | None = None
    state: ActionState = "proposed"
    actor: str = ""
    result: str = ""
    updated: int = 0


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Work that outlives the process that does it. ``kind`` says who knows how, ``payload`` what.

    ``key`` names the one job of its kind that may exist under it; empty for none. It runs from ``due`` on, and again
    every ``every`` microseconds if that is not 0. ``attempt`` counts those who took it and tells their writes apart,
    ``beat`` grows while one of them lives. ``failures`` in a row that got no further than ``before`` end it when there
    are ``most_failures`` (0: never). ``done`` of ``total`` is its progress, ``note`` a sentence about how it stands.
    """

    id: str
    time: int
    kind: str
    tenant: str = "default"
    key: str = ""
    payload: dict[str, Any] = {}
    state: JobState = "waiting"
    due: int = 0
    every: int = 0
    attempt: int = 0
    beat: int = 0
    worker: str = ""
    cancelling: bool = False
    failures: int = 0
    most_failures: int = 5
    done: int = 0
    before: int = 0
    total: int = 0
    note: str = ""
    updated: int = 0


class StoredFile(Record, frozen=True, kw_only=True):
    """A file a client uploaded, or one made for it. ``expires`` is when it is deleted, None for never."""

    name: str
    purpose: str
    bytes: int
    expires: int | None = None


class Batch(Record, frozen=True, kw_only=True):
    """Requests answered together when there is room. Its figures are those of the requests answered so far.

    ``key`` and ``scopes`` are those of who asked. ``times`` holds when each status was reached; ``expires`` is the end
    of the window, ``keep`` how long its output files stay (microseconds). ``estimate`` holds tokens and cost as told
    before the start; ``cost`` is nano-dollars, None while a price is unknown. ``attempt`` is the job's whose writes
    count; ``upstream`` what a back end elsewhere goes by.
    """

    key: str
    scopes: tuple[str, ...]
    endpoint: str
    window: str
    input_file: str
    output_file: str = ""
    error_file: str = ""
    status: BatchStatus = "validating"
    times: dict[str, int] = {}
    expires: int
    keep: int
    model: str = ""
    backend: str = ""
    metadata: dict[str, str] = {}
    errors: list[dict[str, Any]] = []
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0
    estimate: dict[str, Any] = {}
    attempt: int = 0
    upstream: dict[str, str] = {}
    note: str = ""
