"""What every part of `results.json` is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Self, TypeVar

from arch_common.errors import ArchError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


_Model = TypeVar("_Model", bound=StrictModel)


def read_versioned(model: type[_Model], path: Path, kind: str, again: str) -> _Model:
    """Read and validate a file of a class that has a `schema_version`.

    Args:
        model: the class.
        path: of the file.
        kind: what it is called: a results file.
        again: what to do where it is of another version.

    Raises:
        ArchError: if it is missing, is no JSON, or does not follow this version of the schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArchError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ArchError(f"{path} is no {kind}: it is not UTF-8") from error
    version = model.model_fields["schema_version"].default
    try:
        return model.from_json(text)
    except ValidationError as error:
        written = _schema_version(text)
        if written not in (None, version):
            raise ArchError(
                f"{path} follows version {written} of the schema, and this arch reads version {version}: {again}, or "
                "read it with the arch that wrote it"
            ) from error
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ArchError(f"{path} is no {kind} of schema version {version}: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ArchError(f"{path} is no {kind}: it is no JSON: {error}") from error


def _schema_version(text: str) -> object:
    """What a file says; None where it says nothing."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found.get("schema_version") if isinstance(found, dict) else None
