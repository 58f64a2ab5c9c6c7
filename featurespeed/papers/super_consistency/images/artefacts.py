"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.images.spec import (
    DEPTH_MUP,
    NO_ROOT,
    OnePassSpec,
    ResidualDepthSpec,
    ResidualWidthSpec,
)
from featurespeed.papers.super_consistency.readings import ALONG_TRAINING, SHARPNESS, TRANSFER
from featurespeed.papers.super_consistency.spec import MUP, NTP
from featurespeed.values import Spec

_NETWORK = "Which ResNet the paper has is not known; here it is the authors' ConvNet with skip connections."


def _reading(size: str, symbol: str, span: int, networks: str) -> str:
    return (
        f"{networks} {_NETWORK} Left: {TRANSFER.format(size=size, span=span)} "
        f"Middle: {SHARPNESS.format(size=size, symbol=symbol)} Right: training loss there."
    )


def _settings(
    parameterizations: Setting, data: Setting, sizes: Setting, batch: str, steps: str, networks: tuple[str, str]
) -> tuple[Setting, ...]:
    """What the paper says of one figure; ``networks``: label of that of the paper, and of the one beside it."""
    own, beside = networks
    return (
        parameterizations,
        Setting("Network", "a ResNet", "text:residual ConvNet, one layer a block"),
        data,
        Setting(
            "Augmentation: random resized crop", "not given; with flips in the authors' code", "spec:data.resized_crop"
        ),
        Setting("Optimizer", "SGD, cross-entropy", "column:optimizer"),
        sizes,
        Setting("Batch size", batch, f"spec:networks.{own}.batch_size"),
        Setting("Training steps", steps, "spec:steps"),
        Setting(f"Base learning rates, {own}", "not given", f"spec:networks.{own}.learning_rates"),
        Setting(f"Base learning rates, {beside}", "none: it is ours", f"spec:networks.{beside}.learning_rates"),
        Setting("Images measured on", "one fixed batch; 1024 in the authors' code", "spec:curvature.images"),
        *ALONG_TRAINING,
    )


def _artefact(
    name: str, data: str, size: str, spec: type[Spec], reading: str, settings: tuple[Setting, ...]
) -> Artefact:
    """One of the three figures, which differ in their data, in the size that varies and in what they are beside."""
    title = f"A ResNet on {data} over the {size}"
    return Artefact(
        id=name,
        title=title,
        place=f"Figure {name.removeprefix('sc_fig')}",
        shows=f"transfer and sharpness of a{title.removeprefix('A')}",
        stage="gather",
        spec=spec,
        tables="tables:tabulate",
        drawing="drawing:draw",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=reading,
        settings=settings,
    )


def _over_width(name: str, data: str, spec: type[Spec], beside: str, batch: str, steps: str) -> Artefact:
    settings = _settings(
        Setting("Parameterization", "μP", "column:parameterization"),
        Setting("Data", data, "spec:data.name"),
        Setting("Channels", "not given", WIDTH),
        batch,
        steps,
        (MUP, NTP),
    )
    return _artefact(name, data, "width", spec, _reading("width", "N", 16, beside), settings)


def _over_depth(name: str, data: str, spec: type[Spec], beside: str, batch: str, steps: str) -> Artefact:
    settings = _settings(
        Setting("Parameterization", "Depth-μP", "column:parameterization"),
        Setting("Data", data, "spec:data.name"),
        Setting("Depths L (blocks)", "not given", "column:depth"),
        batch,
        steps,
        (DEPTH_MUP, NO_ROOT),
    )
    return _artefact(name, data, "depth", spec, _reading("depth", "L", 8, beside), settings)


ARTEFACTS = (
    _over_width(
        "sc_fig17",
        "Tiny-ImageNet",
        ResidualWidthSpec,
        "Larger images than CIFAR-10's: above under μP, below and not in the paper under NTP.",
        "64",
        "10 epochs",
    ),
    _over_depth(
        "sc_fig18",
        "Tiny-ImageNet",
        ResidualDepthSpec,
        "Above branches are multiplied with 1/√L, below, not in the paper, they are not.",
        "64",
        "10 epochs",
    ),
    _over_width(
        "sc_fig19",
        "ImageNet",
        OnePassSpec,
        "One pass over the data: above under μP, below and not in the paper under NTP.",
        "128",
        "1 epoch",
    ),
)
