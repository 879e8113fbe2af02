"""What a conversion has to say beside its result."""

from collections.abc import Callable

# Told in words what the new model does not do as the old one did.
Note = Callable[[str], None]
