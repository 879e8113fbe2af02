"""What `/api/generate` and `/api/chat` refuse before anything is loaded."""

from typing import Final

from corral_api.errors import RefusalError
from corral_kernel.errors import (
    InvalidModelError,
    InvalidRequestError,
    MissingCapabilityError,
    UnsupportedError,
)
from corral_kernel.gotext import quote
from corral_kernel.models import Model

MAX_TOP_LOGPROBS: Final = 20


def check_top_logprobs(wanted: int) -> None:
    """Refuse more alternatives beside a token than the API knows.

    Raises:
        InvalidRequestError: If `wanted` is not from 0 to 20.
    """
    if not 0 <= wanted <= MAX_TOP_LOGPROBS:
        raise InvalidRequestError(f"top_logprobs must be between 0 and {MAX_TOP_LOGPROBS}")


_PULL_AGAIN: Final = "Pull the model again to get the latest version with full thinking support"
"""What helps with models whose first versions had a template without thoughts."""


def check_capabilities(
    model: Model, sent: str, has: tuple[str, ...], *, think: bool | str | None, more: str
) -> None:
    """Refuse what the model, or this release with it, cannot do.

    Args:
        model: In question.
        sent: Its name as the client wrote it.
        has: Its capabilities.
        think: As the request has it.
        more: A capability that the request needs beside `completion`; empty: none.

    Raises:
        RefusalError: If it is to think and cannot.
        MissingCapabilityError: If it lacks what else is needed.
        InvalidModelError: If a file of a model that is a folder is missing or damaged. What a
            model of one file lacks, Ollama tells as a capability.
    """
    if model.problem and model.folder_files:
        raise InvalidModelError(model.problem)
    if think and "thinking" not in has:
        old = model.family == "qwen3" or model.name.model == "deepseek-r1"
        cure = f". {_PULL_AGAIN}" if old else ""
        raise RefusalError(400, f"{quote(sent)} does not support thinking{cure}")
    needed = ("completion", more) if more else ("completion",)
    if missing := tuple(name for name in needed if name not in has):
        raise MissingCapabilityError(model.name.full, missing)


def refuse_image_generation(model: Model) -> None:
    """Refuse models that make images.

    Raises:
        RefusalError: If it is one by its config.
    """
    if "image" in (model.config.capabilities or ()):
        raise RefusalError(400, "image generation models are not currently supported")


def refuse_images(sent: str) -> None:
    """Refuse pictures and sounds: no model takes them yet.

    Raises:
        UnsupportedError: Always.
    """
    raise UnsupportedError(
        f"{quote(sent)} does not support images: this release takes text alone, "
        "leave 'images' out of the request"
    )
