"""The registry of folders: what was found last, looked for anew every now and then."""

import threading
import time
from collections.abc import Sequence
from typing import Final

from corral_folders.scan import Scanner, Seen
from corral_folders.states import States
from corral_kernel.contracts import Registry, RegistryPlaces
from corral_kernel.models import LentModel
from corral_kernel.store.cache import DerivedCache

REST_S: Final = 1.0
"""Between two looks at least."""

PATIENCE_S: Final = 0.25
"""For a look that takes long: what was found before is given then."""

FIRST_PATIENCE_S: Final = 20.0
"""For the first, before which there is nothing to give. It begins with the server."""

_REST_FACTOR: Final = 20  # looks may take a twentieth of the time


class FolderRegistry(Registry):
    """Lends what lies in folders: of `CORRAL_MODEL_PATHS`, and of an Ollama on this machine.

    A look at the folders runs in a thread of its own, so that a disk that hangs holds up nobody.
    """

    name = "folders"
    docs = "models in folders of this machine, run where they lie"

    def __init__(self, rest_s: float = REST_S) -> None:
        self._rest_s = rest_s
        self._scanner: Scanner | None = None
        self._states: States | None = None
        self._seen = Seen()
        self._error: Exception | None = None
        self._looked = False
        self._lock = threading.Lock()
        self._look: tuple[threading.Event, float] | None = None  # that is under way, and since when
        self._due = 0.0

    def begin(self, places: RegistryPlaces) -> None:
        """Learn which folders to look at."""
        self._states = States(DerivedCache(places.home / "cache"), self._look_soon)
        self._scanner = Scanner(places, self._states)
        if places.folders or places.usual:
            self._begin_look()

    def lent(self) -> Sequence[LentModel]:
        """Give what is in the folders.

        Raises:
            Exception: Whatever the last look failed by.
        """
        self._refresh()
        if self._error is not None:
            raise self._error
        return self._seen.lent

    def notes(self) -> Sequence[str]:
        """Say what cannot be read, what is left out, and what is still being hashed."""
        self._refresh()
        waiting = self._states.unknown if self._states else 0
        more = f"digests of {waiting} files are being found out; they can be used meanwhile"
        return (*self._seen.notes, *([more] if waiting else []))

    def _refresh(self) -> None:
        look = self._begin_look()
        if look is not None:
            done, since = look
            patience_s = PATIENCE_S if self._looked else FIRST_PATIENCE_S
            done.wait(max(0.0, since + patience_s - time.monotonic()))

    def _begin_look(self) -> tuple[threading.Event, float] | None:
        """Look, unless that was done just now; gives the look that is under way."""
        if self._scanner is None:
            return None
        with self._lock:
            if self._look is None and time.monotonic() >= self._due:
                self._look = threading.Event(), time.monotonic()
                thread = threading.Thread(
                    target=self._run,
                    args=(self._scanner, *self._look),
                    name="folders",
                    daemon=True,
                )
                thread.start()
            return self._look

    def _run(self, scanner: Scanner, done: threading.Event, since: float) -> None:
        try:
            self._seen, self._error = scanner.look(), None
        except Exception as error:  # noqa: BLE001 - told by `lent`
            self._error = error
        finally:
            took_s = time.monotonic() - since
            with self._lock:
                self._look, self._looked = None, True
                rest_s = max(self._rest_s, _REST_FACTOR * took_s) if self._rest_s else 0.0
                self._due = time.monotonic() + rest_s
            done.set()

    def _look_soon(self) -> None:
        with self._lock:
            self._due = 0.0
