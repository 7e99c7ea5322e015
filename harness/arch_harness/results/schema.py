"""What every part of `results.json` is made of."""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class StrictModel(BaseModel):
    """Unknown fields are refused: a misspelt field must not vanish. NaN and infinity are no results."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """UTF-8; a name of a file that is not has escapes where pydantic's own writer and reader fail."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=2).encode(errors="backslashreplace")

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` gave.

        Raises:
            ValueError: if it is no JSON, or not of this kind: pydantic's ValidationError is one.
        """
        return cls.model_validate(json.loads(text))
