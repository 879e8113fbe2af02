"""The key that a server signs with towards Ollama's registry: `$CORRAL_HOME/id_ed25519`.

It is made when it is first needed. Whoever has an account there adds `id_ed25519.pub` to it; who
used Ollama before can copy both files of its folder here.
"""

import base64
import contextlib
import os
from pathlib import Path
from typing import Final

from corral_kernel.errors import RegistryError

_NAME: Final = "id_ed25519"
_PRIVATE: Final = 0o600
_PUBLIC: Final = 0o644


def signed(home: Path, text: str) -> str:
    """Sign a text: the public key and the signature, as `Authorization` has them.

    Reads files, and may make them: from asyncio, call it in a thread.

    Raises:
        RegistryError: If there is no key, and none can be made, or what is there is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_ssh_private_key,
    )

    path = home / _NAME
    try:
        if not path.exists():
            _make(path)
        key = load_ssh_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise RegistryError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except Exception as error:  # noqa: BLE001 - the library raises many kinds
        raise RegistryError(f"{path} is no key without a password: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise RegistryError(f"{path} is no ed25519 key: move it away, and a new one is made")
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    signature = base64.b64encode(key.sign(text.encode())).decode()
    return f"{line.split()[1]}:{signature}"


def _make(path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n"
    path.parent.mkdir(0o755, parents=True, exist_ok=True)
    # Written aside and linked: of two who make one at once, the first wins and both use it.
    aside = path.with_name(f"{_NAME}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(private)
        try:
            path.hardlink_to(aside)
        except FileExistsError:
            return
        written = path.with_name(f"{_NAME}.pub")
        written.write_bytes(public)
        written.chmod(_PUBLIC)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
