"""What every part of `results.json` is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class StrictModel(BaseModel):
    """Unknown fields are refused: a misspelt field must not vanish. NaN and infinity are no results."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
