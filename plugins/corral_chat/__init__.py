"""Chat templates: in Jinja, as GGUF files carry them, and in Go, as Modelfiles do."""

from collections.abc import Sequence

from corral_chat.renderers import GoRenderer, JinjaRenderer
from corral_kernel.contracts import ChatRenderer
from corral_kernel.plugins import hookimpl

CORRAL_API_VERSION = 1


@hookimpl
def corral_chat_formats() -> Sequence[ChatRenderer]:
    return [JinjaRenderer(), GoRenderer()]
