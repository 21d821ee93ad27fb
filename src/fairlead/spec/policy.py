"""The policy of a use case: what must hold whatever is answered, from masking to people."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from fairlead.secret import REFERENCE
from fairlead.spec.bounds import Quantity, QuantityText
from fairlead.spec.hours import Hours, HoursError
from fairlead.spec.part import Part

MaskKind = Literal["email", "phone", "card", "iban"]


class Privacy(Part):
    """What happens to personal data."""

    mask: tuple[MaskKind, ...] = Field(
        default=("email", "phone", "card", "iban"),
        description="Kinds of personal data masked before anything is stored.",
    )
    store_content: bool = Field(default=True, description="Store (masked) message texts, not only figures.")
    training_use: bool = Field(default=False, description="Conversations may be used to train models.")


class Retention(Part):
    """How long things are kept, in days."""

    traces_days: int = Field(default=30, ge=1, le=3650, description="Days a trace is kept.")
    conversations_days: int = Field(default=90, ge=1, le=3650, description="Days a conversation is kept.")


class Residency(Part):
    """Where data may go."""

    regions: tuple[Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z0-9-]{1,30})?$")], ...] = Field(
        default=(),
        max_length=50,
        description="Regions where data may be stored, such as eu, us or eu-central-1; empty: any.",
    )
    external_models: bool = Field(default=True, description="Messages may be sent to models outside your own network.")


class Handoff(Part):
    """Talking to a person."""

    enabled: bool = Field(default=True, description="Users can ask for a person.")
    hours: str = Field(
        default="24/7", max_length=300, description='When people answer: "Mon-Fri 09:00-17:00" or "24/7".'
    )
    timezone: str = Field(default="UTC", max_length=64, description="IANA time zone of the hours.")
    message: Annotated[str, Field(max_length=2000)] = Field(
        default="A person of our team will answer here.",
        description="What the user reads when handed over.",
    )
    sla: QuantityText = Field(
        default=Quantity(value=600.0, unit="s"),
        description="How soon a person should have taken over, counted within the hours, as in 10 min.",
        json_schema_extra={"default": "10 min"},
        validate_default=False,
    )

    @field_validator("sla")
    @classmethod
    def _check_sla(cls, given: Quantity) -> Quantity:
        if given.unit != "s" or not 0 < given.value <= 7 * 86_400:
            raise PydanticCustomError("sla", "{expected}", {"expected": "a time up to 168 h", "near": "10 min"})
        return given

    @field_validator("hours")
    @classmethod
    def _check_hours(cls, text: str) -> str:
        try:
            return str(Hours.read(text))
        except HoursError as error:
            raise PydanticCustomError("hours", "{expected}", {"expected": str(error), "near": ""}) from error

    @cached_property
    def opening(self) -> Hours:
        """``hours``, parsed."""
        return Hours.read(self.hours)


class Disclosure(Part):
    """What users are told before the first answer."""

    greeting: Annotated[str, Field(min_length=1, max_length=2000)] = Field(
        default="Hello! I am an AI assistant. You can ask for a person at any time.",
        description="First message of a conversation; says that an AI answers (EU AI Act, Article 50(1)).",
    )


class Identity(Part):
    """How the site that embeds the chat says who is signed in: by a token it signs (JWT, HS256)."""

    secret: Annotated[str, Field(pattern=REFERENCE)] = Field(
        description="Where the shared secret is, at least 32 bytes: env:NAME, file:PATH or keyring:SERVICE/NAME."
    )


class Policy(Part):
    """What must hold whatever is answered."""

    privacy: Privacy = Field(default=Privacy(), description="What happens to personal data.")
    retention: Retention = Field(default=Retention(), description="How long things are kept.")
    residency: Residency = Field(default=Residency(), description="Where data may go.")
    handoff: Handoff = Field(default=Handoff(), description="Talking to a person.")
    disclosure: Disclosure = Field(default=Disclosure(), description="What users are told before the first answer.")
    identity: Identity | None = Field(default=None, description="Taking over who is signed in from the site.")
