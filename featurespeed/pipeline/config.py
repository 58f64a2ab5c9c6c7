"""Configuration: validated once at the door, then frozen typed specs.

``config.yaml`` has one block an artefact, ``workflow/scales/<scale>.yaml`` holds what a scale changes, and a user's own
file or ``--config`` comes last. :func:`load_config` merges the three and checks every key; a fault raises
:class:`ConfigError`, whose text is one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, Tag, ValidationError, create_model

from featurespeed.data.registry import DATASETS, DIGEST_VARIABLE, FOLDER_VARIABLE
from featurespeed.homogeneous.spec import DescentSpec, DescentSweepSpec
from featurespeed.pipeline.own_block import OwnSpec
from featurespeed.pipeline.registry import ARTEFACTS, ROOM_OF, ROOMS, Artefact, Room
from featurespeed.sweeps.spec import SweepSpec
from featurespeed.training.curvature_operations import split_by_seeds
from featurespeed.training.curvature_spec import SharpnessSpec
from featurespeed.training.spec import TrainingSpec
from featurespeed.values import Count, Positive, Spec, as_written, did_you_mean

ScaleName = Literal["smoke", "laptop", "gpu", "paper"]
SCALES: tuple[str, ...] = get_args(ScaleName)
#: Rooms of a paper whose figures one process draws, where all papers are over in seconds.
MOST_ROOMS = 4


class ConfigError(ValueError):
    """A fault in the configuration; ``str(error)`` is one line with the key, the value and what is allowed."""


class TrainingSettings(Spec):
    """How training jobs run; what they compute does not depend on it, so a change repeats nothing but where it says so.

    Attributes:
        checkpoint_minutes: between two checkpoints; a killed job goes on from the last one.
        keep_weights: keep the weights at the probe steps after the stages that read them are done.
        cuda_graph: on a GPU, replay each training step as one graph.
        jobs_per_gpu: how many jobs share a GPU; small networks leave most of one idle.
        sizes_per_process: how many jobs (networks of one size) that the same artefact is the first to need one process
            trains, or measures, one after the other: a process takes seconds to start, and small networks not many more
            to train. Of the longer jobs of scaled descent half as many. A killed process does all of them again, and a
            change of the number repeats what it regroups.
        together: whose jobs these are: those that one artefact is the first to need, one room or one paper. The latter
            are for runs that are over in seconds: whoever asks for one figure then waits for those beside it. With
            paper, one process also draws the figures of several rooms. A change may repeat what it regroups.
        pflop_per_measurement: a measurement along training of more operations than this, in 10^15, is several jobs, of
            some seeds each, for as many GPUs, where sizes_per_process is 1; None keeps all seeds together. A change
            repeats what it divides otherwise, training included, of artefacts that are not there yet.
    """

    checkpoint_minutes: Positive
    keep_weights: bool
    cuda_graph: bool
    jobs_per_gpu: Count
    sizes_per_process: Count
    together: Literal["artefact", "room", "paper"]
    pflop_per_measurement: Positive | None


ContentHash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BaseConfig(Spec):
    """What a configuration holds besides the blocks of the artefacts, and what follows from all of it.

    The block ``own``, a model of the user's own, may be absent: nothing else depends on it.
    """

    scale: ScaleName
    data_dir: str | None
    data_sha256: dict[Literal[tuple(DATASETS)], ContentHash]
    training: TrainingSettings
    own: OwnSpec | None = None

    def block(self, artefact: str) -> Spec:
        """Spec of one artefact; an unknown id raises :class:`ConfigError`."""
        return getattr(self, check_artefact(artefact).id)

    def params(self, artefact: str) -> dict[str, Any]:
        """The spec as plain JSON values, as rules and tables carry it."""
        return self.block(artefact).model_dump(mode="json")

    def training_runs(self, artefact: str | None = None) -> dict[str, TrainingSpec]:
        """Run id -> training job, of one artefact or of all."""
        names = [artefact] if artefact else list(ARTEFACTS)
        jobs = [job for name in names for job in getattr(self.block(name), "training_runs", {}).values()]
        return {job.run: job for job in jobs}

    def sharpness_runs(self, artefact: str | None = None) -> dict[str, SharpnessSpec]:
        """Name of a measurement -> training job and what is measured along it, of one artefact or of all."""
        names = [artefact] if artefact else list(ARTEFACTS)
        blocks = [block for block in map(self.block, names) if isinstance(block, SweepSpec)]
        whole = {found.name: found for block in blocks for found in block.measurements}
        most = self.training.pflop_per_measurement
        if most is None:
            return whole
        return {part.name: part for found in whole.values() for part in split_by_seeds(found, most * 1e15)}

    def kept_rates(self) -> dict[str, list[float] | None]:
        """Training job -> learning rates whose weights a later stage reads; None is all of them."""
        others = [name for name in ARTEFACTS if not isinstance(self.block(name), SweepSpec)]
        found: dict[str, list[float] | None] = {run: None for name in others for run in self.training_runs(name)}
        for measured in self.sharpness_runs().values():
            own = measured.learning_rates or measured.training.learning_rates
            before = found.setdefault(measured.training.run, [])
            if before is not None:
                found[measured.training.run] = sorted({*before, *own})
        return found

    def descents(self, artefact: str | None = None) -> dict[str, DescentSpec]:
        """Run id -> job of scaled descent, of one artefact or of all."""
        names = [artefact] if artefact else list(ARTEFACTS)
        blocks = [block for block in map(self.block, names) if isinstance(block, DescentSweepSpec)]
        return {name: job for block in blocks for name, job in block.descents.items()}

    def jobs(self, artefact: str) -> list[str]:
        """Names of all jobs whose tables an artefact needs."""
        return [*self.training_runs(artefact), *self.sharpness_runs(artefact), *self.descents(artefact)]

    def datasets(self, artefact: str) -> list[str]:
        """Names of the data sets that the stage of an artefact reads: those that its spec says (``datasets``), or else
        that of its key ``data``, if it has one.
        """
        block = self.block(artefact)
        data = getattr(block, "data", None)
        return list(getattr(block, "datasets", [data.name] if data else []))

    def environment(self) -> dict[str, str]:
        """Settings that reach the jobs through the environment: they say where and how, and change no result."""
        variables = {
            "FEATURESPEED_CHECKPOINT_MINUTES": str(self.training.checkpoint_minutes),
            "FEATURESPEED_CUDA_GRAPH": str(int(self.training.cuda_graph)),
            "FEATURESPEED_JOBS_PER_GPU": str(self.training.jobs_per_gpu),
        }
        if self.data_dir is not None:
            variables[FOLDER_VARIABLE] = self.data_dir
        if self.data_sha256:
            variables[DIGEST_VARIABLE] = ",".join(f"{name}={digest}" for name, digest in self.data_sha256.items())
        return variables


#: The whole configuration of one run: a block for every artefact that the registry finds, of the type that it names.
Config: type[BaseConfig] = create_model(
    "Config", __base__=BaseConfig, **{name: (artefact.spec, ...) for name, artefact in ARTEFACTS.items()}
)


# --- loading ----------------------------------------------------------------------------------------------------------


def merge(base: Mapping, changes: Mapping) -> dict:
    """``base`` with ``changes`` laid over it, block by block; neither argument is modified.

    A range or a list replaces the old value whole: only artefact blocks and their named sub-blocks are merged.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        both_blocks = isinstance(value, Mapping) and isinstance(old, Mapping) and key not in _REPLACED_WHOLE
        merged[key] = merge(old, value) if both_blocks else value
    return merged


_REPLACED_WHOLE = frozenset(
    {
        "depths",
        "sampler_depths",
        "widths",
        "input_dims",
        "output_dims",
        "branch_scales",
        "models",
        "scalings",
        "steps",
        "data_sha256",
    }
)


#: Whose keys are labels, one for each network: one that is written wrong reads like that of a new network.
_LABELLED = frozenset({"networks", "runs", "transformers"})


def check_choice(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    """``value`` if it is one of ``allowed``, else a :class:`ConfigError` that names key, value and choices."""
    if value not in allowed:
        given = repr(value) if isinstance(value, str) else shown(value)
        hint = did_you_mean(value, allowed)
        raise ConfigError(f"config: {key} = {given}: unknown, allowed: {', '.join(allowed)}{hint}")
    return value


def check_artefact(artefact: str) -> Artefact:
    """The :class:`Artefact` of this id, else a :class:`ConfigError`."""
    return ARTEFACTS[check_choice("artefact", artefact, tuple(ARTEFACTS))]


def load_config(base: Mapping, scales: Mapping[str, Mapping], user: Mapping) -> BaseConfig:
    """Merge ``base`` (config.yaml), the scale's own file and the user's changes, and validate the result.

    Args:
        base: ``config.yaml`` as read.
        scales: scale name -> ``workflow/scales/<name>.yaml`` as read.
        user: what the user changed on top; may hold ``scale``.

    Raises:
        ConfigError: one line with the key, the value and what is allowed.
    """
    scale = check_choice("scale", user.get("scale", base.get("scale")), SCALES)
    for key, block in {**base, **user}.items():
        if key not in Config.model_fields:
            raise ConfigError(_unknown_key((as_written(key),), block, Config))
        if key in ARTEFACTS and not isinstance(block, Mapping):
            raise ConfigError(f"config: {key} = {shown(block)}: {_BLOCK}")
    given = merge(merge(base, scales[scale]), user)
    merged = _completed(given)
    for artefact in ARTEFACTS:
        if artefact in merged:
            if "artefact" in merged[artefact]:
                path = (artefact, "artefact")
                raise ConfigError(_unknown_key(path, merged[artefact]["artefact"], _block_of(path, Config)))
            merged[artefact] = {**merged[artefact], "artefact": artefact}
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_one_line(error, merged) + _where_from(error, given)) from None


def _completed(merged: Mapping) -> dict:
    """Blocks that say ``like: <artefact>`` take what they do not set themselves from there."""
    completed = dict(merged)
    for artefact, block in merged.items():
        if artefact not in ARTEFACTS or "like" not in block:
            continue
        own = {key: value for key, value in block.items() if key != "like"}
        if block["like"] is not None:
            source = _source(artefact, merged)
            own = merge({key: value for key, value in merged[source].items() if key != "like"}, own)
        completed[artefact] = own
    return completed


def _source(artefact: str, merged: Mapping) -> str:
    """The artefact that a block is like, which stands by itself."""
    blocks = tuple(name for name in ARTEFACTS if name in merged)
    chain = [artefact]
    while (source := merged[chain[-1]].get("like")) is not None:
        circle = check_choice(f"{chain[-1]}.like", source, blocks) in chain
        chain.append(source)
        if circle:
            fault = f"is in a circle, {' -> '.join(chain)}; name a block that is like no other"
            raise ConfigError(f"config: {artefact}.like = {chain[1]!r}: {fault}")
    if len(chain) > 2:
        fault = f"is like {chain[2]} itself; name a block that is like no other, such as {chain[-1]}"
        raise ConfigError(f"config: {artefact}.like = {chain[1]!r}: {fault}")
    return chain[1]


def config_schema() -> dict[str, Any]:
    """JSON schema of a whole configuration as users write it, for editors; kept in ``workflow/schemas``."""
    schema = Config.model_json_schema()
    for name, definition in schema["$defs"].items():
        if definition.get("properties", {}).pop("artefact", None):  # filled in by the loader
            definition["required"].remove("artefact")
            if "networks" in definition["properties"]:  # such a block may take what it does not set from another
                definition["properties"]["like"] = {"enum": [*ARTEFACTS, None]}
                definition.pop("required")
        if name in ("NetworkRuns", "CurvatureSpec"):
            definition.pop("required")
    return _without_doubles(schema)


def _without_doubles(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Definitions that differ in name and text alone stand once: types of rooms often add a rule, but no key."""
    first: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, definition in schema["$defs"].items():
        content = {key: value for key, value in definition.items() if key not in ("title", "description")}
        names[name] = first.setdefault(json.dumps(content, sort_keys=True), name)
    text = re.sub(r"(?<=#/\$defs/)\w+", lambda match: names[match[0]], json.dumps(schema))
    made = json.loads(text)  # as a file has it: lists, no tuples
    return made | {"$defs": {name: made["$defs"][name] for name in first.values()}}


_BLOCK = "must be a block of settings"
#: Types of faults -> what is said of them, where the words of pydantic are those of Python.
_MESSAGES = {"model_type": _BLOCK, "dict_type": _BLOCK, "tuple_type": "must be a list"}


def _one_line(error: ValidationError, merged: Mapping) -> str:
    faults = error.errors()
    first = faults[0]
    path = _path(first)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    unknown = _unknown_label(path[:3], faults, merged)
    if unknown:
        return unknown + more
    if first["type"] == "extra_forbidden":
        return _unknown_key(path, first["input"], _block_of(first["loc"], Config)) + more
    if first["type"] == "missing":
        return f"config: {'.'.join(path)}: missing, a value is required{more}"
    message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, "))
    message = message[:1].lower() + message[1:]
    # A rule across keys fails on the whole block; its message names the key and the value itself.
    whole_block = isinstance(first["input"], Mapping) and first["type"] == "value_error"
    value = "" if whole_block and path[-1] not in _REPLACED_WHOLE else f" = {shown(first['input'])}"
    return f"config: {'.'.join(path)}{value}: {message}{more}"


def _where_from(error: ValidationError, given: Mapping) -> str:
    """The end of a message about a block that takes settings from another, which a user may have changed alone."""
    artefact = _path(error.errors()[0])[:1]
    source = given.get(artefact[0], {}).get("like") if artefact and artefact[0] in ARTEFACTS else None
    return f"; what {artefact[0]} does not set itself it takes from {source}" if source else ""


def _path(fault: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that lead to a fault; what stands in brackets, as ``[key]`` for a wrong key of a mapping, is none."""
    return tuple(as_written(part) for part in fault["loc"] if not str(part).startswith("["))


def _unknown_label(label: tuple[str, ...], faults: Sequence[Mapping[str, Any]], merged: Mapping) -> str:
    """A fault of a network that lacks settings, beside whole ones: its label is new, and maybe written wrong."""
    missing: dict[tuple[str, ...], list[str]] = {}
    for *start, key in (_path(fault) for fault in faults if fault["type"] == "missing"):
        missing.setdefault(tuple(start), []).append(key)
    if len(label) < 3 or label[1] not in _LABELLED or label not in missing:
        return ""
    networks = {as_written(name): settings for name, settings in merged[label[0]][label[1]].items()}
    known = [name for name in networks if (*label[:2], name) not in missing]
    if not known:
        return ""
    given, needed, hint = shown(networks[label[2]]), ", ".join(missing[label]), did_you_mean(label[2], known)
    fault = f"unknown label, without {needed}; known: {'; '.join(known)}{hint}"
    return f"config: {'.'.join(label)} = {given}: {fault}"


def _unknown_key(path: tuple[str, ...], value: Any, block: type[BaseModel]) -> str:
    allowed = tuple(name for name in block.model_fields if name != "artefact")
    key, hint = ".".join(path), did_you_mean(path[-1], allowed)
    return f"config: {key} = {shown(value)}: unknown key, allowed: {', '.join(allowed)}{hint}"


def _block_of(place: Sequence[Any], model: type[BaseModel]) -> type[BaseModel]:
    """The block in which the last key of a place stands; of a block of several kinds the tag says which one it is."""
    kinds: list[tuple[str, type[BaseModel]]] = []
    for part in place[:-1]:
        tagged = [kind for tag, kind in kinds if tag == part]
        if part in model.model_fields:
            kinds = list(_blocks(model.model_fields[part].annotation))
            tagged = [kind for _, kind in kinds]
        model = tagged[0] if tagged else model
    return model


def _blocks(annotation: Any, tag: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The blocks that an annotation allows, itself or inside, such as one that may be absent, each with its tag."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tag, annotation
        return
    own = next((found.tag for found in getattr(annotation, "__metadata__", ()) if isinstance(found, Tag)), tag)
    inside = (annotation.__origin__,) if hasattr(annotation, "__metadata__") else get_args(annotation)
    for part in inside:
        yield from _blocks(part, own)


def shown(value: Any) -> str:
    """A value as a message has it; a long one is cut."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def owners_of(jobs: Iterable[str], users: Mapping[str, Iterable[str]], together: str) -> dict[str, str]:
    """Name of a job -> whose jobs go with it: the first artefact that needs it, or the room or paper of that one."""
    first = first_users(users)
    of = {
        "artefact": lambda artefact: artefact,
        "room": lambda artefact: ROOM_OF[artefact].name,
        "paper": lambda artefact: ROOM_OF[artefact].paper.group,
    }[together]
    return {name: of(first[name]) for name in jobs}


def first_users(users: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Name of a job -> the first artefact that needs it, from artefact -> names of its jobs."""
    first: dict[str, str] = {}
    for artefact, names in users.items():
        for name in names:
            first.setdefault(name, artefact)
    return first


def rooms_together(together: str) -> dict[str, tuple[Room, ...]]:
    """Name -> rooms whose figures one process draws: each alone, or those of a paper in few parts."""
    if together != "paper":
        return {room.name: (room,) for room in ROOMS}
    by_name = {room.name: room for room in ROOMS}
    parts = jobs_together({room.name: room.paper.group for room in ROOMS}, MOST_ROOMS)
    return {names[0] + "_and_others" * (len(names) > 1): tuple(by_name[name] for name in names) for names in parts}


def jobs_together(owners: Mapping[str, Hashable], most: int) -> list[list[str]]:
    """Names of the jobs with the same owner, in order, in as few groups of at most ``most`` as there can be.

    The groups of an owner are of nearly equal size, so that none of them is waited for longer than need be.

    >>> jobs_together({"a": "x", "b": "x", "c": "y", "d": "x"}, 2)
    [['a', 'b'], ['d'], ['c']]
    """
    by_owner: dict[Hashable, list[str]] = {}
    for name, owner in owners.items():
        by_owner.setdefault(owner, []).append(name)
    groups = []
    for names in by_owner.values():
        count = -(-len(names) // most)
        ends = [-(-len(names) * part // count) for part in range(count + 1)]
        groups += [names[start:end] for start, end in zip(ends, ends[1:], strict=False)]
    return groups
