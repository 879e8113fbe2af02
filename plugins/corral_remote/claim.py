"""What this backend says of a stub: a manifest that tells where its model runs."""

from typing import Final

from corral_kernel.contracts import Claim, LoadOptions
from corral_kernel.errors import InvalidRequestError
from corral_kernel.fields import fields_of
from corral_kernel.models import Model
from corral_kernel.remotes import parse_remote
from corral_remote.options import RemoteOptions

NAME: Final = "remote"
BASE_URL: Final = "base_url"
SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
)
FORMATS: Final = ("json", "schema")
SLOTS: Final = 256

_WORK: Final = ("completion", "embedding", "tools", "thinking")
_ELSEWHERE: Final = "is ignored: the model runs on another server"
_OURS: Final = tuple(fields_of(RemoteOptions).keys() - fields_of(LoadOptions).keys())


def claim(model: Model) -> Claim | None:
    """Bid for a model on another server."""
    if not model.is_remote:
        return None
    try:
        base = parse_remote(model.config.remote_host)
    except InvalidRequestError:
        return None
    return Claim(
        backend=NAME,
        confidence=0.9,
        why=f"a model that runs at {base}",
        capabilities=_capabilities(model.config.capabilities or ()),
        context_tokens=model.config.context_length,
        slots=SLOTS,
        takes="chat",
        share_key=_share_key(base, model),
        sampling=SAMPLING,
        formats=FORMATS,
        ignored=dict.fromkeys(fields_of(LoadOptions), _ELSEWHERE),
        private={BASE_URL: base},
    )


def _capabilities(stated: tuple[str, ...]) -> tuple[str, ...]:
    """Of what a stub states, what works; one that states nothing completes text and calls tools."""
    if not stated:
        return ("completion", "tools")
    works = tuple(name for name in _WORK if name in stated)
    return works if {"completion", "embedding"} & {*works} else ("completion", *works)


def _share_key(base: str, model: Model) -> str:
    """Models of one server, key and patience share a worker."""
    own = (f"{name}={model.parameters[name]}" for name in sorted(_OURS) if name in model.parameters)
    return " ".join((base, *own))
