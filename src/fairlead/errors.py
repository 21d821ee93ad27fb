"""Every exception Fairlead raises on purpose. The docstring of each is the sentence its user reads.

    FairleadError
    ├── UsageError            what the user wrote cannot be used
    │   ├── SettingInvalid, SettingUnknown
    │   ├── ChoiceUnknown     a name that is in no registry
    │   └── SpecError         see fairlead.spec
    ├── EnvironmentError_     something the machine lacks
    │   ├── ExtraMissing, PortTaken, DiskFull, WeightsMissing, WeightsDamaged
    ├── StoreError            what is stored cannot be read or written
    └── ServiceError          a part that answers requests failed; carries the HTTP status the gateway shows

Braces in a docstring are filled with the keyword arguments of the constructor.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar


class FairleadError(Exception):
    """Something went wrong in Fairlead: {detail}"""

    def __init__(self, **details: Any) -> None:
        self.details = details
        super().__init__(details)

    def __str__(self) -> str:
        return inspect.cleandoc(type(self).__doc__ or "").format(**self.details)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.details))


def _rebuild(kind: type[FairleadError], details: dict[str, Any]) -> FairleadError:
    return kind(**details)


class UsageError(FairleadError):
    """{detail}"""


class SettingInvalid(UsageError):
    """Setting {name} is {found!r} (from {source}); expected {expected}."""


class SettingUnknown(UsageError):
    """There is no setting {name!r} (from {source}). Nearest: {nearest}. `fairlead doctor --settings` lists them all."""


class ChoiceUnknown(UsageError):
    """There is no {kind} {name!r}. Known: {choices}."""


class MachineError(FairleadError):
    """{detail}"""


class ExtraMissing(MachineError):
    """{feature} needs the optional extra {extra!r}. Install it with: pip install 'fairlead[{extra}]'"""


class PortTaken(MachineError):
    """Port {port} on {host} is already in use. Choose another with --port, or stop the process that holds it."""


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

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    kind: ClassVar[str] = "server_error"


class UpstreamUnreachable(ServiceError):
    """The model behind {name} cannot be reached: {detail}. `fairlead doctor` checks it."""

    status, code, kind = 502, "upstream_unreachable", "server_error"


class UpstreamTimeout(ServiceError):
    """The model behind {name} did not answer within {seconds:g} s."""

    status, code, kind = 504, "upstream_timeout", "server_error"


class UpstreamBroken(ServiceError):
    """The model behind {name} broke off in the middle of its answer: {detail}."""

    status, code, kind = 502, "upstream_broken", "server_error"
