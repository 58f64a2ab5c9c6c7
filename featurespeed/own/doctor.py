"""What ``featurespeed doctor`` reports: versions, places, GPUs, disk, data sets, extras, and what to put right."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import featurespeed

NAME = "featurespeed"
LEAST_DISK = 2**30  # bytes of free disk below which a run of the workflow does not fit
LISTED = 4  # packages that one line names
FINE, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: what was looked at, such as ``torch``.
        text: what was found, and for a problem what to do.
        kind: ``ok``, ``note`` (something is missing that not everybody needs), ``problem`` (put it right).
    """

    topic: str
    text: str
    kind: str = FINE


def examine(folder: Path | None = None) -> list[Finding]:
    """Everything, in the order of the report; ``folder`` is where runs would be made, the current one by default."""
    here = Path.cwd() if folder is None else folder
    return [*_package(), *_requirements(), *_torch(), *_libraries(), _threads(), _disk(here), *_data(here), *_extras()]


def _package() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    yield Finding(NAME, f"{featurespeed.__version__} in {Path(featurespeed.__file__).parent}")


# --- packages ---------------------------------------------------------------------------------------------------------


def _requirements() -> Iterator[Finding]:
    """What the base installation needs, as the installed package declares it."""
    missing = [text for text, found in _needed("") if found is None]
    if missing:
        yield Finding("packages", f"missing or too old: {', '.join(missing)}; python -m pip install {NAME}", PROBLEM)
    else:
        names = (
            f"{name} {version}" for name in ("numpy", "pandas", "scipy", "matplotlib") if (version := _version(name))
        )
        yield Finding("packages", ", ".join(names))


def _extras() -> Iterator[Finding]:
    """Which optional parts are complete."""
    try:
        extras = metadata.metadata(NAME).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        yield Finding("extras", f"not known, because {NAME} runs from its sources and is not installed", NOTE)
        return
    for extra in extras:
        missing = [text for text, found in _needed(extra) if found is None]
        if missing:
            told = ", ".join(missing[:LISTED]) + (f" and {len(missing) - LISTED} more" if len(missing) > LISTED else "")
            yield Finding(f"extra {extra}", f"not complete: {told}; python -m pip install '{NAME}[{extra}]'", NOTE)
        else:
            yield Finding(f"extra {extra}", "complete")


def _needed(extra: str) -> Iterator[tuple[str, str | None]]:
    """Requirements of an extra ("" is the base) as they are declared, and the installed version if that satisfies."""
    try:
        declared = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return
    for text in declared:
        requirement, _, marker = text.partition(";")
        named = marker.split("==")[-1].strip(" '\"") if "extra" in marker else ""
        name, least = _name_and_least(requirement)
        if named == extra and name != NAME:
            found = _version(name)
            yield requirement.strip(), found if found and _numbers(found) >= _numbers(least) else None


def _name_and_least(requirement: str) -> tuple[str, str]:
    """Name and smallest version of ``name[extra]>=version``; this package declares no others."""
    name, _, least = requirement.strip().replace("(", "").replace(")", "").partition(">=")
    return name.split("[")[0].strip(), least.strip() or "0"


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, without what marks a preview: 1.0.0a5 -> (1, 0, 0)."""
    parts = []
    for part in version.split("+")[0].split("."):
        digits = part[: next((k for k, character in enumerate(part) if not character.isdigit()), len(part))]
        if not digits:
            break
        parts.append(int(digits))
    return tuple(parts)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _libraries() -> Iterator[Finding]:
    """Parts that are installed and cannot be imported, which others then cannot either."""
    if _version("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        text = f"cannot be imported ({type(error).__name__}: {error}); install the build that belongs to your torch"
        yield Finding("torchvision", text, NOTE)


# --- the machine ------------------------------------------------------------------------------------------------------


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("torch", f"cannot be imported ({type(error).__name__}: {error}); install it anew", PROBLEM)
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    if getattr(torch.version, "hip", None):
        build = f"ROCm {torch.version.hip}"
    yield Finding("torch", f"{torch.__version__}, built for {build}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            yield Finding(f"gpu {index}", f"{gpu.name}, {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB free")
    elif Path("/proc/driver/nvidia/version").exists() and torch.version.cuda:
        remedy = "see that nvidia-smi works and that CUDA_VISIBLE_DEVICES names a GPU"
        yield Finding("gpu", f"there is a driver, but this torch sees no GPU: {remedy}", PROBLEM)
    elif Path("/proc/driver/nvidia/version").exists():
        yield Finding("gpu", "there is a driver, but this torch is built for the CPU: install one for CUDA", NOTE)
    else:
        yield Finding("gpu", "none; all is computed on the CPU")


def _threads() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS")
    threads = f"OMP_NUM_THREADS={asked}" if asked else "OMP_NUM_THREADS not set"
    try:
        import torch

        threads = f"{torch.get_num_threads()} of torch ({threads})"
    except Exception:  # said above
        pass
    return Finding("threads", f"{cores} cores, {threads}")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free at {folder}"
    return Finding("disk", text) if free >= LEAST_DISK else Finding("disk", f"{text}: make room", PROBLEM)


# --- data sets --------------------------------------------------------------------------------------------------------


def _data(here: Path) -> Iterator[Finding]:
    """The data sets of the papers; none is needed for one's own networks."""
    try:
        from featurespeed.data.registry import DATASETS, FOLDER_VARIABLE
        from featurespeed.data.sources import find_sources  # noqa: F401 (whether it can be imported)
    except ImportError as error:
        yield Finding("data", f"skipped: {error.name} is not installed (it comes with the extra workflow)", NOTE)
        return
    named = os.environ.get(FOLDER_VARIABLE)
    local = Path(named).expanduser() if named else None
    if local is not None and not local.is_dir():
        yield Finding("data", f"{FOLDER_VARIABLE} = {named}: no such folder", PROBLEM)
        local = None
    for name in DATASETS:
        yield _data_set(name, here, local)


def _data_set(name: str, here: Path, local: Path | None) -> Finding:
    from featurespeed.data.registry import DATASETS, FOLDER_VARIABLE

    topic, dataset = f"data {name}", DATASETS[name]
    prepared = here / "resources" / "data" / name / f"{name}.npz"
    if prepared.exists():
        return Finding(topic, f"prepared in {prepared.parent}")
    if dataset.embedded:
        return Finding(topic, "needs no file: it comes with Python or with the extra workflow")
    try:
        found = None if local is None else _local(name, local)
    except Exception as error:
        return Finding(topic, str(error), NOTE)
    if found is not None:
        return Finding(topic, f"found in {found}")
    remedy = "is downloaded when it is needed" if dataset.downloads else f"name its folder in {FOLDER_VARIABLE}"
    return Finding(topic, f"not here; {remedy}", NOTE)


def _local(name: str, folder: Path) -> Path | None:
    """Where files of a data set lie in a folder; they are not read."""
    from featurespeed.data.class_folders import holds_classes
    from featurespeed.data.registry import DATASETS
    from featurespeed.data.sources import find_sources

    dataset = DATASETS[name]
    if dataset.layout == "folders":
        places = [*(folder / own for own in dataset.folders), folder]
        return next((place for place in places if holds_classes(place)), None)
    return next((source.where for source in find_sources(dataset, folder)), None)
