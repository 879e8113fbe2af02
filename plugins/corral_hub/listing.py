"""What a repository holds, asked by Hugging Face's own library. It blocks: call it in a thread."""

import os
from typing import Any, Final

from msgspec import Struct

from corral_hub.addresses import Address
from corral_kernel import __version__
from corral_kernel.errors import RegistryError, RegistryUnavailableError

ENDPOINT: Final = "https://huggingface.co"
MAX_FILES: Final = 10_000
_AGENT: Final = "corral"
_TIMEOUT_S: Final = 30.0
_SHOWN: Final = 500
_TEMPORARY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})


class HubFile(Struct, frozen=True, kw_only=True):
    """One file of a repository.

    Args:
        name: With slashes.
        size_bytes: Of it.
        sha256: 64 hexadecimal digits; empty: it is small, and only its Git name is known.
        git: SHA-1 that Git names its content by; empty: not told.
    """

    name: str
    size_bytes: int
    sha256: str = ""
    git: str = ""


class Listing(Struct, frozen=True, kw_only=True):
    """A repository at one commit.

    Args:
        endpoint: The server that has it.
        repository: `USER/REPOSITORY`.
        commit: Its files are asked for by it, so that all are of one state.
        files: All of them.
        headers: To be sent to the endpoint, and nowhere else.
    """

    endpoint: str
    repository: str
    commit: str
    files: tuple[HubFile, ...]
    headers: dict[str, str]


def list_repository(address: Address) -> Listing:
    """Ask for the files of a repository.

    Raises:
        RegistryError: If there is none, or it is not for us: says what to do.
    """
    # Read when the library is imported: it then tells nobody what else is installed here.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from huggingface_hub import HfApi
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # no __all__

    endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    token = _token()
    api = HfApi(endpoint, token, library_name=_AGENT, library_version=__version__)
    try:
        info = api.model_info(
            address.repository,
            revision=address.revision,
            files_metadata=True,
            timeout=_TIMEOUT_S,
        )
        headers = build_hf_headers(token=token, library_name=_AGENT, library_version=__version__)
        return _listing(address, info, endpoint, headers)
    except RegistryError:
        raise
    except Exception as error:
        raise _refusal(error, address, endpoint, known=bool(token)) from error


def _token() -> str | bool:
    """Give the token that the library finds (`HF_TOKEN`, or its file); False: none."""
    from huggingface_hub import get_token

    return get_token() or False


def _listing(address: Address, info: Any, endpoint: str, headers: dict[str, str]) -> Listing:
    siblings = info.siblings or []
    if len(siblings) > MAX_FILES:
        raise RegistryError(f"{address.repository} holds over {MAX_FILES} files")
    if not isinstance(info.sha, str) or not info.sha.isalnum():
        raise RegistryError(f"{endpoint} does not say which commit {address.repository} is at")
    return Listing(
        endpoint=endpoint,
        repository=address.repository,
        commit=info.sha,
        files=tuple(_file(sibling) for sibling in siblings if sibling.size is not None),
        headers=headers,
    )


def _file(sibling: Any) -> HubFile:
    return HubFile(
        name=str(sibling.rfilename),
        size_bytes=int(sibling.lfs.size if sibling.lfs else sibling.size),
        sha256=str(sibling.lfs.sha256) if sibling.lfs else "",
        git=str(sibling.blob_id or ""),
    )


def _refusal(error: Exception, address: Address, endpoint: str, *, known: bool) -> RegistryError:
    """Say what went wrong in words that tell what to do."""
    from huggingface_hub import errors

    where, repository = f"{endpoint}/{address.repository}", address.repository
    if isinstance(error, errors.GatedRepoError):
        how = (
            "with the account of your token" if known else "and set HF_TOKEN where the server runs"
        )
        return RegistryError(f"{repository} is gated: ask for access at {where} {how}")
    if isinstance(error, errors.RevisionNotFoundError):
        return RegistryError(f"{repository} has no revision {address.revision}")
    if isinstance(error, errors.RepositoryNotFoundError):
        private = "" if known else "; if it is private, set HF_TOKEN where the server runs"
        return RegistryError(
            f"file does not exist: {where} is no repository that we may see{private}"
        )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return RegistryError("HF_HUB_OFFLINE is set where the server runs: nothing is fetched")
    said = " ".join(str(error).split())[:_SHOWN] or type(error).__name__
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None or status in _TEMPORARY:
        return RegistryUnavailableError(f'Get "{where}": {said}')
    return RegistryError(f"{status}: {said}")
