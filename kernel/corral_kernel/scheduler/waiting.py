"""What can be asked of the line of requests that wait."""

from collections.abc import Iterable, Mapping

from corral_kernel.scheduler.instance import Instance, State
from corral_kernel.scheduler.lease import Hold, Waiter
from corral_kernel.scheduler.limits import MOST_LIGHT, slots_for


def anybody_for(instance: Instance, waiting: Iterable[Waiter]) -> bool:
    """Whether somebody waits whom this instance would serve."""
    key, loaded = instance.want.key, instance.want
    return any(
        waiter.want.key == key and waiter.want.is_served_by(loaded)
        for waiter in waiting
        if not waiter.lease.done()
    )


def queue_length(
    waiting: Iterable[Waiter],
    newest: Waiter,
    instances: Mapping[str, Instance],
    max_loaded: int,
    budget_bytes: int,
) -> int:
    """Requests that wait; those for models that come next take the slots of these first.

    Args:
        waiting: In the order of arrival.
        newest: Who asks: 0 if it will take such a slot.
        instances: By key of the model.
        max_loaded: Models at once.
        budget_bytes: Memory of all models.
    """
    kinds: dict[bool, dict[str, int]] = {False: {}, True: {}}  # light ones apart
    length = 0
    for waiter in waiting:
        instance = instances.get(waiter.want.key)
        is_coming = instance is None or instance.state is not State.READY
        coming = kinds[waiter.want.is_light]
        if is_coming and len(coming) < (MOST_LIGHT if waiter.want.is_light else max_loaded):
            coming.setdefault(waiter.want.key, slots_for(waiter.want, budget_bytes))
        if is_coming and coming.get(waiter.want.key, 0) > 0:
            coming[waiter.want.key] -= 1
            if waiter is newest:
                return 0
        else:
            length += 1
    return length


def give_back(hold: Hold, waiting: Iterable[Waiter]) -> None:
    """Hand on what was kept for a worker that is gone: to who waits for another one, or nobody."""
    for waiter in waiting:
        wants = waiter.want.model.digest == hold.model and not waiter.lease.done()
        if wants and waiter.hold is None:
            waiter.hold = hold
            return
    hold.let_go()
