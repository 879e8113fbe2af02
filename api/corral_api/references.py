"""From a model's name, as a client sends it, to the model."""

from corral_api.errors import RefusalError, Route, blank_model
from corral_kernel.errors import ModelNotFoundError
from corral_kernel.models import Model
from corral_kernel.names import ModelName, split_marker
from corral_kernel.service import Corral

REMOTE_UNAVAILABLE = "ollama cloud is disabled: remote model is unavailable"
DETAILS_UNAVAILABLE = "ollama cloud is disabled: remote model details are unavailable"


async def find_model(
    corral: Corral, sent: str, route: Route, *, remote: str = REMOTE_UNAVAILABLE
) -> Model:
    """Find the model that a request means: one here, or one that a backend asks another server for.

    Args:
        corral: Where to look.
        sent: The name as it was sent.
        route: Tells what is said if there is none.
        remote: What is said of a model on another server that nothing here asks.

    Raises:
        RefusalError: If no model is named, or one that is out of reach.
        InvalidNameError: If it is no name.
        ModelNotFoundError: If there is no such model.
    """
    model = await corral.find(local_name(sent, route, remote=remote))
    if not corral.reaches(model):
        raise RefusalError(403, remote)
    return model


def local_name(sent: str, route: Route, *, remote: str = REMOTE_UNAVAILABLE) -> str:
    """Take the source marker off the name of a local model.

    Raises:
        RefusalError: If no model is named, or one in a cloud.
        InvalidNameError: If there are two markers.
    """
    if not sent.strip():
        raise blank_model(route)
    base, marker = split_marker(sent)
    if marker == "cloud":
        raise RefusalError(403, remote)
    return base


async def find_exactly(corral: Corral, sent: str, route: Route) -> Model:
    """Find a model whose name is spelled just so; otherwise as `find_model`."""
    model = await find_model(corral, sent, route)
    wanted = ModelName.parse(local_name(sent, route))
    if wanted.parts != model.name.parts:
        raise ModelNotFoundError(wanted.short)
    return model
