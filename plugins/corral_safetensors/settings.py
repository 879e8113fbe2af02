"""What a JSON object says, each value checked for its type and bounds when it is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from corral_kernel.errors import InvalidModelError

_MOST: Final = 2**31 - 1
_MOST_FACTORS: Final = 65_536


class Settings:
    """Values by name.

    Args:
        values: What the file holds.
        place: What messages call it.
    """

    def __init__(self, values: Mapping[str, Any], place: str = "config.json") -> None:
        self._values = values
        self._place = place

    def has(self, name: str) -> bool:
        """Whether it says anything but null of this."""
        return self._values.get(name) is not None

    def values(self) -> dict[str, Any]:
        """All that it says."""
        return dict(self._values)

    def names(self) -> list[str]:
        """Of what it says."""
        return list(self._values)

    def count(self, name: str, default: int | None = None, most: int = _MOST) -> int:
        """A whole number from 1 on."""
        value = self._found(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise self._wrong(name, value, f"a whole number from 1 to {most}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number over 0."""
        value = self._found(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        if not 0 < value < _MOST:  # which NaN is not, either
            raise self._wrong(name, value, f"a number over 0 and below {_MOST}")
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._found(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._found(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, value, "a string")
        return value

    def numbers(self, name: str) -> list[float]:
        """A list of finite numbers."""
        value = self._found(name, None)
        if (
            not isinstance(value, list)
            or len(value) > _MOST_FACTORS
            or not all(
                isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < _MOST
                for one in value
            )
        ):
            raise self._wrong(name, value, "a list of numbers")
        return [float(one) for one in value]

    def texts(self, name: str, default: Sequence[str] | None = None) -> list[str]:
        """A list of strings."""
        value = self._found(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise self._wrong(name, value, "a list of strings")
        return list(value)

    def part(self, name: str) -> "Settings":
        """An object within it; an empty one, if there is none."""
        value = self._values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return Settings(cast("dict[str, Any]", value), f"{name} of {self._place}")

    def over(self, other: "Settings") -> "Settings":
        """These values, and the other's for what these do not say."""
        said = {name: value for name, value in self._values.items() if value is not None}
        return Settings({**other.values(), **said}, self._place)

    def _found(self, name: str, default: object) -> object:
        value = self._values.get(name)
        if value is None:
            value = default
        if value is None:
            raise InvalidModelError(f"{self._place} says nothing of {name}, which is needed")
        return value

    def _wrong(self, name: str, value: object, wanted: str) -> InvalidModelError:
        shown = repr(value)[:60]
        return InvalidModelError(f"{name} of {self._place} is {shown}; it is to be {wanted}")
