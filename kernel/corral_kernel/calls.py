"""What the API asks of the kernel: the structs of one call."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from corral_kernel.contracts.chat import Message, ToolChoice
from corral_kernel.models import Model


class Call(Struct, frozen=True, kw_only=True):
    """What every call that needs a loaded model says.

    Args:
        model: From `Corral.find`.
        options: The request's own, as decoded from JSON; they go over the model's parameters.
        keep_alive_ns: How long the model stays loaded after; negative: for ever; None: as before.
    """

    model: Model
    options: Mapping[str, Any] = {}
    keep_alive_ns: int | None = None


class CompletionCall(Call, frozen=True, kw_only=True):
    """One completion: a chat (`messages`), a prompt to put into the template, or a raw prompt.

    Args:
        messages: A whole conversation; the model's own messages and system go before it.
        prompt: A user's prompt instead; `system` replaces the model's.
        template: A Go template in place of the model's.
        suffix: What is to follow the answer: it fills the gap between `prompt` and this.
        think: Whether to think, or how much; None: as the model does.
        raw: Take `prompt` verbatim.
        context_ids: Token ids of an earlier answer, whose text goes before the prompt.
        format: JSON text of a format; None: free text.
        truncate: Shorten what is too long, by the API's rules.
        shift: Forget old positions when the window is full; None: the model's default (on).
        logprobs: How many alternatives to report beside each token; None: no log-probabilities.
        render_only: Answer with the rendered prompt alone.
        tools: That the model may call, as OpenAI writes them.
        tool_choice: Whether it is to.
    """

    messages: tuple[Message, ...] | None = None
    prompt: str = ""
    system: str | None = None
    template: str = ""
    suffix: str = ""
    think: bool | str | None = None
    raw: bool = False
    context_ids: tuple[int, ...] = ()
    format: bytes | None = None
    truncate: bool = True
    shift: bool | None = None
    logprobs: int | None = None
    render_only: bool = False
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: ToolChoice = ToolChoice()


class EncodeCall(Call, frozen=True, kw_only=True):
    """Vectors of texts.

    Args:
        texts: In order.
        truncate: Cut what is too long; False: fail.
        normalize: Scale each to length 1.
        dimensions: Keep the first few; 0: all.
    """

    texts: tuple[str, ...]
    truncate: bool = True
    normalize: bool = True
    dimensions: int = 0


class RunningModel(Struct, frozen=True, kw_only=True):
    """A loaded model, as `ps` shows it.

    Args:
        model: The one that it was loaded for.
        size_bytes: Host and device; `vram_bytes`: the device's share.
        expires_at: Seconds since 1970; None: never.
        context_tokens: Of one request.
        slots: Requests at once.
        backend: That runs it.
        details: What the engine tells people: versions, devices, threads.
    """

    model: Model
    size_bytes: int
    vram_bytes: int
    expires_at: float | None
    context_tokens: int
    slots: int
    backend: str
    details: Mapping[str, str | int] = {}


class BackendBid(Struct, frozen=True, kw_only=True):
    """What a backend bids for a model: `why` in its plugin's words, `confidence` in (0, 1]."""

    name: str
    why: str
    confidence: float


class AbsentBackend(Struct, frozen=True, kw_only=True):
    """A backend that cannot be used here and would run a model.

    Args:
        name: Of the backend.
        why: It would; empty: it cannot tell without its library.
        needs: Import name of the library that is missing.
        install: What to do about it.
    """

    name: str
    why: str
    needs: str
    install: str


class BackendChoice(Struct, frozen=True, kw_only=True):
    """The backend that would run a model.

    Args:
        name: Empty: none would.
        why: Its plugin's words for its bid.
        confidence: Of its bid; 0: none would.
        chosen_by: `option`, `parameter`, `order` or `bid`; see `choosing.Choice`.
        others: Bids that were not chosen, the highest first.
        absent: Backends that would bid if their library were installed.
        error: Why none would.
    """

    name: str = ""
    why: str = ""
    confidence: float = 0.0
    chosen_by: str = ""
    others: tuple[BackendBid, ...] = ()
    absent: tuple[AbsentBackend, ...] = ()
    error: str = ""
