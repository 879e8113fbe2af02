"""Chat templates: those in Jinja, as GGUF files carry them, and the plain prompt."""

from collections.abc import Sequence

from corral_chat.renderers import JinjaRenderer, PromptRenderer
from corral_kernel.contracts import ChatRenderer
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_chat_formats() -> Sequence[ChatRenderer]:
    return [JinjaRenderer(), PromptRenderer()]
