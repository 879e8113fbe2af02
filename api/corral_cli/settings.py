"""What holds for the answers of one `corral run`; slash commands change it."""

from typing import Any

from msgspec import Struct, field


class RunSettings(Struct, kw_only=True):
    """How answers are asked for and shown. What is `None` or empty is left to the server."""

    model: str
    keep_alive: str | int | None = None  # a Go duration, or -1
    think: bool | str | None = None
    format: Any = None  # "json", or a decoded schema
    options: dict[str, Any] = field(default_factory=dict)
    wrap: bool = True
    verbose: bool = False
    hide_thinking: bool = False

    def request(self) -> dict[str, Any]:
        """Give the fields of a request that these settings make."""
        fields = {
            "model": self.model,
            "format": self.format,
            "options": self.options or None,
            "keep_alive": self.keep_alive,
            "think": self.think,
        }
        return {name: value for name, value in fields.items() if value is not None}
