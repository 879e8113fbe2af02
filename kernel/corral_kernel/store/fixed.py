"""A store that serves the models of a lock, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from corral_kernel.errors import InvalidModelError, LockedStoreError, ModelNotFoundError
from corral_kernel.models import LentModel, Model
from corral_kernel.names import ModelName
from corral_kernel.store.manifests import StoredManifest
from corral_kernel.store.opening import BlobSource
from corral_kernel.store.store import Store


class Fixed(msgspec.Struct, frozen=True, kw_only=True):
    """Which models there are.

    Args:
        manifests: The digest of each one's manifest, `sha256:hex`.
        lock: Where that is written, for people.
    """

    manifests: Mapping[ModelName, str]
    lock: str


class FixedStore(Store):
    """Until `fix` is called it is as any store; then no model changes, and no other is found.

    Args:
        root: See `Store`.
        cache_dir: See `Store`.
        fixed: What it serves.
        prune: See `Store`.
        lent: See `Store`.
    """

    def __init__(
        self,
        root: Path,
        cache_dir: Path,
        fixed: Fixed,
        *,
        prune: bool,
        lent: Callable[[], Sequence[LentModel]],
    ) -> None:
        super().__init__(root, cache_dir, prune=prune, lent=lent)
        self._lock = fixed.lock
        self._fixed = {name.folded: digest for name, digest in fixed.manifests.items()}
        self._is_fixed = False

    def fix(self) -> None:
        """Let nothing but the lock's models be found from now on, and none be changed."""
        self._is_fixed = True

    def check_changes(self) -> None:
        """Refuse every change once it is fixed.

        Raises:
            LockedStoreError: Then.
        """
        if self._is_fixed:
            raise LockedStoreError(
                f"this server serves exactly the models of {self._lock} and changes none: "
                "start it without --locked (CORRAL_LOCKED) to change models"
            )

    def find(self, name: ModelName, *, exact: bool = False) -> tuple[StoredManifest, BlobSource]:
        """Find a model of the lock; see `Store.find`.

        Raises:
            ModelNotFoundError: If the lock or the store has no such model.
            InvalidModelError: If it is another one than the lock says.
        """
        found, source = super().find(name, exact=exact)
        if self._is_fixed:
            wanted = self._fixed.get(found.name.folded)
            if wanted is None:
                raise ModelNotFoundError(name.short)
            if wanted != f"sha256:{found.digest}":
                raise InvalidModelError(
                    f"{found.name.short} has the manifest sha256:{found.digest} by now, and "
                    f"{self._lock} says {wanted}: another server changed it; start this one anew"
                )
        return found, source

    def list_models(self) -> list[Model]:
        """Give the lock's models, the newest first."""
        return [
            model
            for model in super().list_models()
            if not self._is_fixed or self._fixed.get(model.name.folded) == f"sha256:{model.digest}"
        ]
