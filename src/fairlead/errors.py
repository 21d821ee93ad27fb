"""Every exception Fairlead raises on purpose. The docstring of each is the sentence its user reads.

    FairleadError
    ├── UsageError            what the user wrote cannot be used
    │   ├── SettingInvalid, SettingsUnreadable, SettingUnknown
    │   ├── ChoiceUnknown     a name that is in no registry
    │   └── SpecError         see fairlead.spec
    ├── MachineError          something the machine lacks
    │   └── PortTaken, DiskFull, WeightsMissing, WeightsDamaged, EngineFailed
    ├── StoreError            what is stored cannot be read or written
    └── ServiceError          a part that answers requests failed; carries the HTTP status the gateway shows

Braces in a docstring are filled with the keyword arguments of the constructor.
"""

from __future__ import annotations

import inspect
from typing import Any


class FairleadError(Exception):
    """Something went wrong in Fairlead: {detail}"""

    def __init__(self, **details: Any) -> None:
        self.details = details
        super().__init__(details)

    def __str__(self) -> str:
        return inspect.cleandoc(type(self).__doc__ or "").format(**self.details)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.details))


def install_extra(extra: str) -> str:
    """The command that installs an optional extra; Fairlead is on no package index, so it is run in the checkout."""
    return f"pip install '.[{extra}]' (in Fairlead's checkout)"


def _rebuild(kind: type[FairleadError], details: dict[str, Any]) -> FairleadError:
    return kind(**details)


class UsageError(FairleadError):
    """{detail}"""


class SettingInvalid(UsageError):
    """Setting {name} is {found!r} (from {source}); expected {expected}."""


class SettingsUnreadable(UsageError):
    """The settings file {path} {detail}; `fairlead doctor --settings` lists every name."""


class SettingUnknown(UsageError):
    """There is no setting {name!r} (from {source}). Nearest: {nearest}. `fairlead doctor --settings` lists them all."""


class ChoiceUnknown(UsageError):
    """There is no {kind} {name!r}. Known: {choices}."""


class MachineError(FairleadError):
    """{detail}"""


class PortTaken(MachineError):
    """Port {port} on {host} is already in use. Choose another with {flag}, or stop the process that holds it."""


class DiskFull(MachineError):
    """The disk that holds {path} is full: {detail}. Free some space, or move the data with --data-dir."""


class WeightsMissing(MachineError):
    """The model file {path} does not exist. Check the variant's `model:` line, or reinstall Fairlead for `mini`."""


class WeightsDamaged(MachineError):
    """The model file {path} cannot be used: {detail}. Fetch or export it again."""


class StoreError(FairleadError):
    """{detail}"""


class ServiceError(FairleadError):
    """{detail}"""

    status: int = 500
    code: str = "internal_error"
    kind: str = "server_error"


class UpstreamUnreachable(ServiceError):
    """The model behind {name} cannot be reached: {detail}. `fairlead doctor` checks it."""

    status, code, kind = 502, "upstream_unreachable", "server_error"


class UpstreamTimeout(ServiceError):
    """The model behind {name} did not answer within {seconds:g} s."""

    status, code, kind = 504, "upstream_timeout", "server_error"


class UpstreamBroken(ServiceError):
    """The model behind {name} gave no whole answer: {detail}."""

    status, code, kind = 502, "upstream_broken", "server_error"


class AnswerUnfit(ServiceError):
    """The model behind {name} gave no answer that fits the schema, also when asked once more: {detail}."""

    status, code, kind = 502, "schema_not_met", "server_error"


class ExtraMissing(ServiceError):
    """The {what} needs an extra that cannot be imported ({detail}). Install it: {command}"""

    status, code, kind = 503, "extra_missing", "server_error"

    def __init__(self, *, extra: str, **details: Any) -> None:
        super().__init__(**{"command": install_extra(extra), **details, "extra": extra})


class ModelResting(ServiceError):
    """The model {name} has failed several times in a row and is left alone for {retry_after} s."""

    status, code, kind = 503, "model_resting", "server_error"


class EngineFailed(MachineError):
    """The engine {name} cannot run: {detail}. What it wrote is in {log}; `fairlead doctor` checks the rest."""


class TurnRunning(ServiceError):
    """The assistant is still answering the message before. Wait for its answer, then send again."""

    status, code, kind = 409, "turn_running", "invalid_request_error"


class RequestInvalid(ServiceError):
    """{problem}"""

    status, code, kind = 400, "invalid_value", "invalid_request_error"


class BodyInvalid(ServiceError):
    """The request body is not valid JSON: {detail}. Expected one JSON object in UTF-8."""

    status, code, kind = 400, "invalid_json", "invalid_request_error"


class BodyTooDeep(ServiceError):
    """The request body nests deeper than {limit} levels. Flatten it, or raise the limit with --max-depth."""

    status, code, kind = 400, "body_too_deep", "invalid_request_error"


class BodyTooLarge(ServiceError):
    """The request body is larger than {limit} bytes. Send less, or raise the limit with --max-body-bytes."""

    status, code, kind = 413, "body_too_large", "invalid_request_error"


class BodyLate(ServiceError):
    """The request body did not arrive within {seconds:g} s. Send it again."""

    status, code, kind = 408, "request_timeout", "invalid_request_error"


class EngineUnknown(ServiceError):
    """There is no engine {name!r}. There are: {known}. `fairlead engines list` shows them."""

    status, code, kind = 404, "engine_not_found", "invalid_request_error"


class EngineFixed(ServiceError):
    """The engine {name} is a part of this process and changes with it alone. Restart `fairlead serve`."""

    status, code, kind = 409, "engine_fixed", "invalid_request_error"


class SwapFailed(ServiceError):
    """The engine {name} was not replaced and serves on: {detail}"""

    status, code, kind = 502, "swap_failed", "server_error"


class ContentTypeWrong(ServiceError):
    """The request body is declared as {found}, not plain JSON. With curl, add -H 'content-type: application/json'."""

    status, code, kind = 415, "unsupported_media_type", "invalid_request_error"


class KeyMissing(ServiceError):
    """The request carries no API key. Send `Authorization: Bearer fl-...`; `fairlead keys create` makes a key."""

    status, code, kind = 401, "missing_api_key", "invalid_request_error"


class KeyRefused(ServiceError):
    """The API key is unknown, expired or revoked. `fairlead keys list` shows the valid ones."""

    status, code, kind = 401, "invalid_api_key", "invalid_request_error"


class ScopeMissing(ServiceError):
    """The API key lacks the scope {scope!r}. `fairlead keys create my-key --scope {scope}` makes one that has it."""

    status, code, kind = 403, "insufficient_scope", "permission_error"


class ModelForbidden(ServiceError):
    """The API key does not open the model {model}. It opens: {allowed}."""

    status, code, kind = 403, "model_not_allowed", "permission_error"


class OperationForbidden(ServiceError):
    """The API key does not open {operation}. It opens: {allowed}."""

    status, code, kind = 403, "operation_not_allowed", "permission_error"


class RateLimited(ServiceError):
    """No more {what} for {whose} now: the limit is {limit} a minute. Send this again in {retry_after} s."""

    status, code, kind = 429, "rate_limit_exceeded", "rate_limit_error"


class TooManyAtOnce(ServiceError):
    """There are {limit} requests of {whose} under way, as many as may be. Send this again in {retry_after} s."""

    status, code, kind = 429, "too_many_concurrent_requests", "rate_limit_error"


class LimitTooSmall(ServiceError):
    """The request may need {needed} tokens, more than {limit} a minute of {whose}. Shorten it or `max_tokens`."""

    status, code, kind = 413, "request_exceeds_limit", "rate_limit_error"


class ModelBusy(ServiceError):
    """The model {name} has its hands full and {waiting} requests waiting. Send this again in {retry_after} s."""

    status, code, kind = 503, "model_busy", "server_error"


class BudgetSpent(ServiceError):
    """The budget of {whose} for {period} ({limit} USD) has {left} USD left; this request may need {needed}."""

    status, code, kind = 429, "insufficient_quota", "insufficient_quota"


class BudgetUnavailable(ServiceError):
    """The budgets cannot be read now, so nothing is spent: {detail} Send this again in {retry_after} s."""

    status, code, kind = 503, "budget_unavailable", "server_error"


class PriceUnknown(ServiceError):
    """No budget can be kept for {model}, which has no price. Mend it at that variant in fairlead.yaml: {line}"""

    status, code, kind = 403, "price_unknown", "permission_error"


class ModelUnknown(ServiceError):
    """There is no model {model}. Nearest: {nearest}. `fairlead check` lists the variants, GET /v1/models all."""

    status, code, kind = 404, "model_not_found", "invalid_request_error"


class OperationUnsupported(ServiceError):
    """The model {model} does not do {operation}. Models that do: {able}."""

    status, code, kind = 400, "unsupported_operation", "invalid_request_error"


class PathUnknown(ServiceError):
    """There is nothing at {method} {path}. {hint}"""

    status, code, kind = 404, "unknown_url", "invalid_request_error"

    def __init__(self, *, hint: str = "/openapi.json describes what there is.", **details: Any) -> None:
        super().__init__(hint=hint, **details)


class MethodWrong(ServiceError):
    """{path} does not take {method}; it takes {allowed}."""

    status, code, kind = 405, "method_not_allowed", "invalid_request_error"


class ShuttingDown(ServiceError):
    """Fairlead is shutting down and takes no new requests. Send this one again in {retry_after} s."""

    status, code, kind = 503, "shutting_down", "server_error"


class CallerGone(ServiceError):
    """The caller went away before the answer was complete."""

    status, code, kind = 499, "client_disconnected", "cancelled"


class InternalFault(ServiceError):
    """Something inside Fairlead failed. The log has the reason under the request id {request}."""


class UpstreamRefused(ServiceError):
    """{message}"""

    def __init__(self, *, status: int, code: str, kind: str, message: str, **details: Any) -> None:
        super().__init__(status=status, code=code, kind=kind, message=message, **details)
        self.status, self.code, self.kind = status, code, kind


class StoreNewer(StoreError):
    """The store {path} is of a newer Fairlead (schema {found}, known {expected}). Run: pip install -U fairlead"""


class StoreBusy(StoreError):
    """The store {path} is in use by another process (waited {seconds} s). Stop that process, or try again."""


class StoreDamaged(StoreError):
    """The store {path} is damaged ({detail}). Mend it with: {command}"""


class StoreFull(StoreError, DiskFull):
    """The disk that holds {path} is full: {detail}. Free some space, or move the data with --data-dir."""


class StoreClosed(StoreError):
    """The store {path} was closed before this call."""


class RecordUnknown(StoreError):
    """There is no {kind} {id!r} in the store."""


class RunUnknown(RecordUnknown, UsageError):
    """There is no run {id!r} in the store. `fairlead runs list` shows them."""


class KeyUnknown(UsageError):
    """There is no API key {name!r}. `fairlead keys list` shows them all."""


class KeyAmbiguous(UsageError):
    """{name!r} is the beginning of more than one API key: {found}. Give the whole id."""


class KeyEnded(UsageError):
    """The API key {name}… is {state} and cannot be rotated. Make a new one: fairlead keys create NAME"""


class ObjectDamaged(StoreError):
    """The stored object {path} does not have the content its name promises. Delete it and put it again."""


class CredentialMissing(UsageError):
    """The key of variant {variant!r} ({reference}) cannot be read: {detail}. Set it, or remove the variant."""


class SecretUnreadable(UsageError):
    """The secret {reference} cannot be read: {detail}."""


class KnowledgeInvalid(UsageError):
    """The knowledge cannot be used; {count} to mend:
    {problems}
    """


class IntentsInvalid(UsageError):
    """The intents in {path} cannot be used: {detail}. Check `routing:` in fairlead.yaml."""


class ToolsInvalid(UsageError):
    """The tools in {path} cannot be used: {detail}."""


class MessageEmpty(ServiceError):
    """There is nothing to answer: the last message is empty or not the user's."""

    status, code, kind = 400, "message_empty", "invalid_request_error"


class MessageTooLong(ServiceError):
    """The message has {found} characters; {limit} are possible. Shorten it."""

    status, code, kind = 413, "message_too_long", "invalid_request_error"


class ConversationUnknown(ServiceError):
    """There is no such conversation, or it has been deleted. Open a new one."""

    status, code, kind = 404, "conversation_unknown", "invalid_request_error"


class AssistantRefuses(ServiceError):
    """The assistant does not take {what}: {why}. Send the request to one of its variants instead: {variants}."""

    status, code, kind = 400, "unsupported_parameter", "invalid_request_error"


class TargetInUse(UsageError):
    """{path} holds {count} of the files already: {files}. Choose another folder, or overwrite with --force."""


class TargetUnwritable(MachineError):
    """{path} cannot be written: {detail}. Choose another folder."""


class TracesUnreadable(StoreError):
    """The stored traces cannot be read: {detail}"""


class TracesUnconvertible(StoreError):
    """A journal holds something that is no trace: {detail}"""


class RequestRefused(ServiceError):
    """{detail}"""

    status, code, kind = 400, "invalid_request", "invalid_request_error"


class ConversationClosed(ServiceError):
    """The conversation is closed. Open a new one."""

    status, code, kind = 409, "conversation_closed", "invalid_request_error"


class FeedbackInvalid(ServiceError):
    """The feedback cannot be kept: {detail}."""

    status, code, kind = 400, "feedback_invalid", "invalid_request_error"


class RangeReversed(UsageError):
    """The time range ends before it begins: from {since} until {until}. Swap the two."""


class PathUnserved(ServiceError):
    """There is nothing at {method} {path}: {why}"""

    status, code, kind = 404, "unknown_url", "invalid_request_error"


class ActionMoveInvalid(StoreError):
    """An action that is {before} cannot become {after}."""


class ActionUnknown(ServiceError):
    """There is no such action, or it does not wait for this any more."""

    status, code, kind = 404, "action_unknown", "invalid_request_error"


class ActionSettled(ServiceError):
    """The action is {state} already; nothing was changed. Reload to see how it stands."""

    status, code, kind = 409, "action_settled", "invalid_request_error"


class IdentityRefused(ServiceError):
    """The identity token is not accepted: {detail}."""

    status, code, kind = 401, "identity_refused", "invalid_request_error"


class HandoffHeld(ServiceError):
    """{operator} has this conversation. Nothing was sent; what you typed is kept."""

    status, code, kind = 409, "handoff_held", "invalid_request_error"


class HandoffReturned(ServiceError):
    """The conversation went back to the queue: your page was not heard of. Take it again; what you typed is kept."""

    status, code, kind = 409, "handoff_returned", "invalid_request_error"


class HandoffGone(ServiceError):
    """That request for a person is closed, or there is none."""

    status, code, kind = 409, "handoff_gone", "invalid_request_error"


class ContactInvalid(ServiceError):
    """That is no e-mail address. Expected one like name@example.com."""

    status, code, kind = 400, "contact_invalid", "invalid_request_error"


class EvidenceInvalid(UsageError):
    """The evidence cannot be judged: {detail}."""


class DatasetInvalid(UsageError):
    """{file} cannot be used as data, {count} to mend:
    {listing}
    """


class DatasetRefused(UsageError):
    """The data set {name} is refused: {detail}."""


class DatasetUnknown(UsageError):
    """There is no data set {name!r} in the store. Known: {known}. `fairlead data add` adds one."""


class TableUnreadable(UsageError):
    """{path} cannot be read: {detail}."""


class ScorerInvalid(UsageError):
    """The scorer {name} cannot be used: {detail}."""


class JudgementInvalid(FairleadError):
    """The judge {name} gave no verdict, twice: {detail}. The case is counted as invalid, not as a score."""


class LabelsInvalid(UsageError):
    """The labels cannot be used: {detail}."""


class FileUnknown(ServiceError):
    """There is no file {id!r}, or it has expired. GET /v1/files lists those of your tenant."""

    status, code, kind = 404, "file_not_found", "invalid_request_error"


class FileTooLarge(ServiceError):
    """The file is larger than the {limit} bytes there is room for. Split it, or delete files no longer needed."""

    status, code, kind = 413, "file_too_large", "invalid_request_error"


class StorageFull(ServiceError):
    """The disk of the server is full; nothing was kept. Tell its operator, and send the file again later."""

    status, code, kind = 507, "storage_full", "server_error"


class BatchUnknown(ServiceError):
    """There is no batch {id!r}. GET /v1/batches and `fairlead batch list` show those there are."""

    status, code, kind = 404, "batch_not_found", "invalid_request_error"


class BatchSettled(ServiceError):
    """The batch {id} is {status} and cannot be {wanted}."""

    status, code, kind = 409, "batch_settled", "invalid_request_error"


class InterchangeInvalid(UsageError):
    """{file} cannot be taken over: {detail}."""


class RoutingRefused(UsageError):
    """No router can be learnt: {detail}."""


class RouterUnreadable(RoutingRefused):
    """No router can be read: {detail}."""


class RouterRefused(UsageError):
    """The variant {variant} cannot route by {file}: {detail}. Learn it again: fairlead route learn."""


class RunAmbiguous(UsageError):
    """{name!r} is the end of more than one run's id: {found}. Give the whole id."""


class SelectionImpossible(UsageError):
    """There is nothing to choose: {detail}."""


class DatasetServed(UsageError):
    """The data set {name} was split, and its parts stand for it: {parts}. {mend}."""


class SamplesLearnt(UsageError):
    """All {count} samples of {name} are, by text, person or conversation, in what the baselines learn from ({train}).

    Measure on a set that was held back (--data), learn from another (--train), or leave them out (--no-baselines).
    """


class PricesInvalid(UsageError):
    """The prices in {path} cannot be used: {detail}."""
