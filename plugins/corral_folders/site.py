"""What those share that put models together."""

from msgspec import Struct

from corral_folders.naming import Place
from corral_folders.states import States
from corral_folders.walk import Notes


class Site(Struct, frozen=True):
    """What models of one place share.

    Args:
        place: Where their names begin.
        states: Of files.
        notes: Where it is said what is left out.
        owner: Of the models, for messages; where each lies is added.
    """

    place: Place
    states: States
    notes: Notes
    owner: str
