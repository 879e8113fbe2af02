"""Which blobs stay: those that a manifest needs, and those that work or a worker uses."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from corral_kernel.errors import CorralError
from corral_kernel.models import Model
from corral_kernel.store.blobs import Blobs
from corral_kernel.store.locks import StoreLocks
from corral_kernel.store.manifests import Manifests
from corral_kernel.store.prune import remove_unneeded


class Keeping:
    """Keeps blobs, and deletes those that nobody needs any more. Any number of threads may use it.

    Args:
        blobs: Of the store.
        manifests: Of the store.
        locks: Of the store.
        forget: Is told the digest of each blob that was deleted.
        prunes: Whether what a worker had goes with it, when its model is gone by then.
    """

    def __init__(
        self,
        blobs: Blobs,
        manifests: Manifests,
        locks: StoreLocks,
        forget: Callable[[str], None],
        *,
        prunes: bool,
    ) -> None:
        self._blobs = blobs
        self._manifests = manifests
        self._locks = locks
        self._forget = forget
        self._prunes = prunes
        self._late: frozenset[str] = frozenset()  # blobs that were in use when they were to go

    @contextlib.contextmanager
    def pinning(self) -> Iterator[Callable[[Iterable[str]], None]]:
        """See `Store.pinning`."""
        pinned: list[str] = []

        def pin(digests: Iterable[str]) -> None:
            new = list(digests)
            self._locks.pin(new)
            pinned.extend(new)

        try:
            yield pin
        finally:
            self._let_go(pinned)

    def use(self, model: Model) -> Callable[[], None]:
        """See `Store.use`."""
        own = [file.digest for file in model.files if file.path == self._blobs.path(file.digest)]
        self._locks.pin(own)

        def let_go() -> None:
            free = self._let_go(own)
            if free and self._prunes and not self._is_there(model):
                self.discard(free)

        return let_go

    def discard(self, digests: Iterable[str]) -> None:
        """Delete those of some blobs that nobody needs; who uses one deletes it afterwards."""
        given = frozenset(digests)
        with self._locks.changing():
            removed, used = remove_unneeded(given, self._blobs, self._manifests, self._locks)
            self._late = (self._late - given).union(used)
        for digest in removed:
            self._forget(digest)

    def _let_go(self, pinned: Iterable[str]) -> list[str]:
        """Pin blobs no more; gives those that nothing of this server needs."""
        free = self._locks.unpin(pinned)
        if late := self._late.intersection(free):
            self.discard(late)
        return free

    def _is_there(self, model: Model) -> bool:
        """Whether a model is as it was when it was opened; another server may have deleted it."""
        try:
            return self._manifests.read(model.name).digest == model.digest
        except CorralError:
            return False
