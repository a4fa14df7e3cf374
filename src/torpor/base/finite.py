"""Numbers that JSON lacks. msgspec writes null for them, which would record something else than was said."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec


def has_strange_number(value: Any) -> bool:
    """Report whether there is a NaN or an infinity anywhere in plain data, msgspec structs and dataclasses included."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(has_strange_number, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(has_strange_number, value))
    if isinstance(value, msgspec.Struct):
        return any(has_strange_number(getattr(value, name)) for name in value.__struct_fields__)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return any(has_strange_number(getattr(value, field.name)) for field in dataclasses.fields(value))
    return False
