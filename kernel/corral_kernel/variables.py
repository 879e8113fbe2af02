"""Every variable of the environment, once: `corral --help` and docs/settings.md are this table.

VARIABLES["KEEP_ALIVE"].default  # "5m", in the spelling that the variable itself takes

What reads them is `corral_kernel.environment`.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from msgspec import Struct


class Variable(Struct, frozen=True):
    """One variable.

    Args:
        default: What holds where it is not set, as it would be written; empty: see `meaning`.
        meaning: One line for people.
        of_server: Whether a server reads it.
    """

    default: str
    meaning: str
    of_server: bool = True


VARIABLES: Final[Mapping[str, Variable]] = MappingProxyType(
    {
        "HOST": Variable(
            "127.0.0.1:11434",
            "where the server listens and clients look: [scheme://]host[:port][/path]",
        ),
        "HOME": Variable("~/.corral", "our own files: logs, history, cache"),
        "MODELS": Variable(
            "$CORRAL_HOME/models", "blobs and manifests; an Ollama folder works as it is"
        ),
        "MODEL_PATHS": Variable(
            "", "folders of models to serve in place, separated as PATH is; none: not even Ollama's"
        ),
        "LOCKED": Variable("", "a models.lock: exactly its models are served, and none is changed"),
        "ORIGINS": Variable("", "further browser origins, separated by commas, one * in each"),
        "KEEP_ALIVE": Variable("5m", "how long an idle model stays loaded"),
        "LOAD_TIMEOUT": Variable("5m", "a load without any progress for so long is given up"),
        "STEP_TIMEOUT": Variable("2m", "a worker silent for so long with requests open is killed"),
        "STALL_TIMEOUT": Variable(
            "1m", "a client that reads nothing of a full buffer for so long loses its answer"
        ),
        "SAMPLER_TIMEOUT": Variable("1s", "what one call of a sampler or constraint may take"),
        "STREAM_INTERVAL": Variable(
            "30ms", "where tokens come quicker, several are sent at a time; 0: each at once"
        ),
        "TASK_TIMEOUT": Variable(
            "15m", "converting or quantizing without any progress for so long is given up"
        ),
        "MAX_TASKS": Variable(
            "2", "conversions, quantizations and comparisons at once; others wait in order"
        ),
        "MAX_LOADED_MODELS": Variable("0", "models loaded at once; 0: three"),
        "NUM_PARALLEL": Variable("0", "requests at once for one model; 0: up to four, by memory"),
        "MAX_QUEUE": Variable("512", "requests that may wait for a load, slot or task; then 503"),
        "MEMORY_BUDGET": Variable(
            "", "bytes for all models (8GiB, 500M); unset: four fifths of what is free at start"
        ),
        "CONTEXT_LENGTH": Variable("0", "num_ctx where none is asked for; 0: 4096"),
        "FLASH_ATTENTION": Variable("", "flash attention on or off; unset: automatic"),
        "KV_CACHE_TYPE": Variable("f16", "type of the cached keys and values, such as q8_0"),
        "EXECUTION_PROVIDER": Variable("cpu", "where ONNX models run, the first choice first"),
        "STRICT_OPTIONS": Variable(
            "", "true: refuse unknown options; false: only warn, of unusable samplers too"
        ),
        "MAX_TRANSFER_STREAMS": Variable(
            "8", "parts of a file that a pull fetches at once; at most 64"
        ),
        "GO_TEMPLATE": Variable(
            "", "of a TEMPLATE and the weights' own: true the first; unset: what does more"
        ),
        "NOPRUNE": Variable("false", "keep files that no model needs"),
        "REGISTRY_AUTH": Variable(
            "", "users of registries: HOST=USER:PASSWORD, separated by commas; else Docker's file"
        ),
        "REMOTES": Variable(
            "ollama.com",
            "hosts that models may run on, separated by commas: host, host:port, address, network",
        ),
        "NO_CLOUD": Variable("false", "never ask ollama.com; /api/status names it too"),
        "PLUGINS": Variable("", "the only plugins to load, separated by commas; unset: all"),
        "DISABLE_PLUGINS": Variable("", "plugins to leave out, separated by commas"),
        "BACKEND_ORDER": Variable(
            "", "backends that go before higher bids, separated by commas, the first first"
        ),
        "DEBUG": Variable("0", "1: debug messages in the log, 2: more"),
        "EDITOR": Variable(
            "", "editor for Ctrl+G in a session; unset: VISUAL, EDITOR, or vi", of_server=False
        ),
        "NOHISTORY": Variable("false", "keep no history of what is typed", of_server=False),
    }
)
"""By the name behind `CORRAL_` and `OLLAMA_`, in the order in which they are explained."""

UNUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AUTH": "requests are not signed",
        "CLOUD_BASE_URL": "there is no cloud",
        "DEBUG_LOG_REQUESTS": "requests are not written to files",
        "EXPERIMENT": "there are no experiments",
        "GPU_OVERHEAD": "set CORRAL_MEMORY_BUDGET for the memory of all models",
        "IGPU_ENABLE": "the backend's library chooses its devices",
        "LLM_LIBRARY": "set CORRAL_BACKEND_ORDER, or the option backend in a model or a request",
        "SCHED_SPREAD": "set the load option split_mode or tensor_split",
        "VULKAN": "the backend's library chooses its devices",
    }
)
"""Variables of Ollama's that nothing here obeys, and why or what to do; a set one is logged."""
