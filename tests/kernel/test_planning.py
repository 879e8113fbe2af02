"""What a request comes to: which backend, which load options, which worker."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from corral_kernel.contracts import EngineInfo
from corral_kernel.environment import Settings
from corral_kernel.errors import InvalidModelError, InvalidOptionError, NoBackendError
from corral_kernel.models import (
    ADAPTER_TYPE,
    DRAFT_TYPE,
    FILE_TYPE,
    PROJECTOR_TYPE,
    WEIGHTS_TYPE,
    Model,
    ModelConfig,
    ModelFile,
)
from corral_kernel.names import ModelName
from corral_kernel.planning import Plan, Planner
from corral_kernel.plugins import Plugins

Make = Callable[..., Planner]


def model(name: str = "m", weights: str = "1", **fields: Any) -> Model:
    files = (file(WEIGHTS_TYPE, weights), *map(file, fields.pop("adapters", ())))
    return Model(
        name=ModelName.parse(name),
        digest="0" * 64,
        size_bytes=1,
        modified_ns=0,
        config=ModelConfig(),
        files=files,
        **fields,
    )


def file(media_type: str, digit: str = "9") -> ModelFile:
    return ModelFile(
        media_type=media_type, digest="sha256:" + digit * 64, size_bytes=5, path=Path("/m")
    )


@pytest.fixture
def planner() -> Make:
    def make(**settings: str) -> Planner:
        environ = {f"CORRAL_{name}": value for name, value in settings.items()}
        return Planner(Plugins(only=("echo",)), Settings.from_environ(environ))

    return make


def effective(plan: Plan, name: str) -> Any:
    return plan.want.options[name]


@pytest.mark.parametrize(
    ("setting", "parameter", "given", "context", "automatic"),
    [
        ("", None, None, 4096, True),
        ("2048", None, None, 2048, True),
        ("2048", 1024, None, 1024, False),
        ("2048", 1024, 512, 512, False),
        ("", None, 1, 4, False),
        ("", None, 100_000, 8192, False),
        ("", None, 0, 4096, True),
        ("", 1024, 0, 4096, True),
        ("99999999", None, None, 8192, True),
    ],
    ids=[
        "default",
        "setting",
        "the model's",
        "the request's",
        "raised",
        "clamped to the trained one",
        "zero is automatic",
        "zero over the model's",
        "setting clamped",
    ],
)
def test_the_context_is_chosen_in_the_contract_s_order(  # noqa: PLR0913, PLR0917 - a row of a table
    planner: Make,
    setting: str,
    parameter: int | None,
    given: int | None,
    context: int,
    automatic: bool,  # noqa: FBT001 - likewise
) -> None:
    settings = {"CONTEXT_LENGTH": setting} if setting else {}
    parameters = {} if parameter is None else {"num_ctx": parameter}
    options = {} if given is None else {"num_ctx": given}
    plan = planner(**settings).plan(model(parameters=parameters), options)
    assert effective(plan, "num_ctx") == context
    assert ("num_ctx" in plan.want.automatic) is automatic


@pytest.mark.parametrize(("context", "batch"), [(4096, 512), (4097, 1024), (8192, 1024)])
def test_the_batch_grows_with_the_context(planner: Make, context: int, batch: int) -> None:
    plan = planner().plan(model(), {"num_ctx": context})
    assert effective(plan, "num_batch") == batch
    assert "num_batch" in plan.want.automatic
    plan = planner().plan(model(), {"num_ctx": context, "num_batch": 77})
    assert effective(plan, "num_batch") == 77
    assert "num_batch" not in plan.want.automatic


def test_the_request_s_options_replace_the_model_s_one_by_one(planner: Make) -> None:
    parameters = {"temperature": 0.5, "stop": ["a", "b"], "top_k": 3, "num_thread": 2}
    plan = planner().plan(model(parameters=parameters), {"stop": ["c"], "top_k": None})
    chain = {spec.name: spec.options for spec in plan.chain.samplers}
    assert chain["temperature"] == {"temperature": 0.5}
    assert chain["top_k"] == {"top_k": 3}
    assert plan.options.stop == ("c",)
    assert effective(plan, "num_thread") == 2


def test_names_of_the_same_weights_come_to_the_same_worker(planner: Make) -> None:
    plans = [
        planner().plan(model("a", parameters={"temperature": 1}), {"seed": 1}),
        planner().plan(model("b", system="other", adapters=(ADAPTER_TYPE,)), {"top_k": 1}),
    ]
    assert plans[0].want.key == plans[1].want.key == "sha256:" + "1" * 64
    assert plans[0].want.is_served_by(plans[1].want)
    assert len(plans[1].adapters) == 1
    assert [file.role for file in plans[1].want.files] == ["weights"]
    assert planner().plan(model(weights="2"), {}).want.key != plans[0].want.key


def test_slots_are_the_setting_s(planner: Make) -> None:
    assert planner().plan(model(), {}).want.slots is None
    assert planner(NUM_PARALLEL="7").plan(model(), {}).want.slots == 7


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        ("ghost", NoBackendError, "backend 'ghost' is not installed; installed: echo"),
        (5, InvalidOptionError, 'option "backend" must be of type string'),
    ],
    ids=["unknown", "no text"],
)
def test_a_backend_that_is_not_there_is_named(
    planner: Make, chosen: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        planner().plan(model(), {"backend": chosen})
    assert str(caught.value) == words


def test_the_chosen_backend_wins_over_the_highest_bid() -> None:
    planner = Planner(Plugins(only=("echo",)), Settings.from_environ({}))
    assert planner.plan(model(), {"backend": "echo"}).want.claim.backend == "echo"
    assert planner.plan(model(parameters={"backend": "echo"}), {}).want.claim.backend == "echo"


def test_without_a_backend_it_is_said_so() -> None:
    planner = Planner(Plugins(only=()), Settings.from_environ({}))
    assert planner.claim(model()) is None
    with pytest.raises(NoBackendError, match="no installed backend runs m:latest"):
        planner.plan(model(), {})


def test_a_damaged_model_is_not_planned(planner: Make) -> None:
    with pytest.raises(InvalidModelError, match="cut short"):
        planner().plan(model(problem="the file is cut short"), {})


def test_the_client_is_told_of_options_that_nobody_obeys(planner: Make) -> None:
    plan = planner().plan(model(parameters={"top_kk": 2}), {"numa": True, "echo": 1, "top_k": 1})
    assert plan.warnings == (
        'option "numa" is ignored: nothing here obeys it any more',
        'option "top_kk" is unknown and ignored; did you mean "top_k"?',
        'option "echo" is unknown and ignored',
    )


def test_strictly_an_unknown_option_of_the_request_is_refused(planner: Make) -> None:
    strict = planner(STRICT_OPTIONS="1")
    with pytest.raises(InvalidOptionError, match=r'"top_kk" is unknown; did you mean "top_k"\?$'):
        strict.plan(model(), {"top_kk": 2})
    assert len(strict.plan(model(parameters={"top_kk": 2}), {"numa": 1}).warnings) == 2


def test_an_option_out_of_its_range_is_refused(planner: Make) -> None:
    with pytest.raises(InvalidOptionError, match="it must be at least 0"):
        planner().plan(model(), {"num_thread": -1})


def test_of_very_many_unknown_options_the_first_few_are_named(planner: Make) -> None:
    given = {f"top_{number}": number for number in range(10_000)}
    warnings = planner().plan(model(), given).warnings
    assert len(warnings) == 21
    assert warnings[-1] == "9980 more options are unknown and ignored"
    with pytest.raises(InvalidOptionError, match='"top_0" is unknown'):
        planner(STRICT_OPTIONS="1").plan(model(), given)
    own = {"mine": 1}
    with pytest.raises(InvalidOptionError, match='"mine" is unknown'):
        planner(STRICT_OPTIONS="1").plan(model(parameters=given), own)


def test_a_name_that_would_spoil_a_log_is_quoted_and_cut(planner: Make) -> None:
    (words,) = planner().plan(model(), {'x"\n' + "y" * 500: 1}).warnings
    assert words.startswith('option "x\\"\\nyyy')
    assert len(words) < 200


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (1, 'option "num_ctx" is 1; the least is 4, which is used'),
        (-7, 'option "num_ctx" is -7; the least is 4, which is used'),
        (10**9, 'option "num_ctx" is 1000000000; the model was trained for 8192, which is used'),
        (0, ""),
        (100, ""),
    ],
)
def test_a_context_that_is_not_the_one_asked_for_is_told_of(
    planner: Make, asked: int, told: str
) -> None:
    plan = planner().plan(model(), {"num_ctx": asked})
    assert plan.warnings == ((told,) if told else ())


def test_options_of_sampling_are_told_of_where_nothing_is_sampled(planner: Make) -> None:
    parameters = {"temperature": 0.5, "stop": ["x"]}
    given = {"seed": 1, "top_k": 3, "samplers": ["top_k"], "num_thread": 1, "min_p": None}
    plan = planner().plan(model(parameters=parameters), given, samples=False)
    assert plan.warnings == tuple(
        f'option "{name}" is ignored: vectors are not sampled'
        for name in ("seed", "top_k", "samplers")
    )


def test_what_the_loaded_engine_does_not_follow_is_told_to_who_set_it(planner: Make) -> None:
    info = EngineInfo(capabilities=("completion",), warnings={"main_gpu": "is ignored: no GPU"})
    plans = planner(STRICT_OPTIONS="0")
    assert plans.plan(model(), {"main_gpu": 0}).told_by(info) == (
        'option "main_gpu" is ignored: no GPU',
    )
    assert plans.plan(model(), {"num_gpu": 1}).told_by(info) == ()
    drafts = plans.plan(model(parameters={"draft_num_predict": 2}), {})
    assert drafts.told_by(info) == (
        'option "draft_num_predict" is ignored: the engine takes no drafts',
    )
    assert drafts.told_by(EngineInfo(capabilities=("completion", "drafts"))) == ()
    assert plans.plan(model(), {"draft_num_predict": 0}).told_by(info) == ()


def test_leniently_even_an_unknown_sampler_is_only_told_of(planner: Make) -> None:
    given = {"samplers": ["no_such", "top_k"], "top_kk": 1, "tfs_z": 1}
    with pytest.raises(InvalidOptionError, match="no_such"):
        planner().plan(model(), given)
    plan = planner(STRICT_OPTIONS="0").plan(model(), given)
    assert [spec.name for spec in plan.chain.samplers] == ["top_k"]
    assert len(plan.warnings) == 3


def folder_file(name: str, digit: str, media_type: str = FILE_TYPE) -> ModelFile:
    return msgspec.structs.replace(file(media_type, digit), name=name)


def folder_model(*files: ModelFile) -> Model:
    plain = model()
    return msgspec.structs.replace(plain, files=files, folder=Path("/store/folders/key"))


def test_files_of_a_folder_have_the_paths_that_workers_find_them_under(planner: Make) -> None:
    adapter = file(ADAPTER_TYPE, "7")
    found = folder_model(folder_file("a.json", "1"), folder_file("sub/b", "2"), adapter)
    plan = planner().plan(found, {})
    assert [(ref.role, ref.name, ref.path) for ref in plan.want.files] == [
        ("file", "a.json", "/store/folders/key/a.json"),
        ("file", "sub/b", "/store/folders/key/sub/b"),
    ]
    assert [(ref.role, ref.path) for ref in plan.adapters] == [("adapter", "/m")]


def test_names_of_the_same_folder_share_a_worker(planner: Make) -> None:
    def key(*files: ModelFile) -> str:
        return planner().plan(folder_model(*files), {}).want.key

    one, two = folder_file("a", "1"), folder_file("b", "2")
    assert key(one, two) == key(two, one) == key(one, two, file(ADAPTER_TYPE, "7"))
    others = {key(one), key(one, folder_file("c", "2")), key(one, two, file(DRAFT_TYPE, "3"))}
    assert len(others | {key(one, two)}) == 4


def test_files_beside_the_weights_have_roles_of_their_own(planner: Make) -> None:
    beside = [file(PROJECTOR_TYPE, "2"), file(DRAFT_TYPE, "3")]
    found = msgspec.structs.replace(model(), files=(*model().files, *beside))
    roles = [ref.role for ref in planner().plan(found, {}).want.files]
    assert roles == ["weights", "projector", "draft"]
