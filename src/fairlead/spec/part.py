"""What every part of ``fairlead.yaml`` has in common: the base of its classes, and the texts they are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Sentence = Annotated[str, Field(min_length=1, max_length=2000)]
RelativePath = Annotated[str, Field(min_length=1, max_length=500)]
Usd = Annotated[float, Field(ge=0, le=1e9)]


class Part(BaseModel):
    """What all parts share: frozen, typed strictly, no unknown keys, texts without outer white space."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True)
