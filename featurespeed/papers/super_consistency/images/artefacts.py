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


_OVER_WIDTH = (
    Setting("Parameterization", "μP", "column:parameterization"),
    Setting("Channels", "not given", WIDTH),
)
_TINY = Setting("Data", "Tiny-ImageNet", "spec:data.name")

ARTEFACTS = (
    Artefact(
        id="sc_fig17",
        title="A ResNet on Tiny-ImageNet over the width",
        place="Figure 17",
        shows="transfer and sharpness of a ResNet on Tiny-ImageNet over the width",
        stage="gather",
        spec=ResidualWidthSpec,
        tables="tables:tabulate",
        drawing="drawing:draw",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=_reading(
            "width", "N", 16, "Larger images than CIFAR-10's: above under μP, below and not in the paper under NTP."
        ),
        settings=_settings(_OVER_WIDTH[0], _TINY, _OVER_WIDTH[1], "64", "10 epochs", (MUP, NTP)),
    ),
    Artefact(
        id="sc_fig18",
        title="A ResNet on Tiny-ImageNet over the depth",
        place="Figure 18",
        shows="transfer and sharpness of a ResNet on Tiny-ImageNet over the depth",
        stage="gather",
        spec=ResidualDepthSpec,
        tables="tables:tabulate",
        drawing="drawing:draw",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=_reading(
            "depth", "L", 8, "Above branches are multiplied with 1/√L, below, not in the paper, they are not."
        ),
        settings=_settings(
            Setting("Parameterization", "Depth-μP", "column:parameterization"),
            _TINY,
            Setting("Depths L (blocks)", "not given", "column:depth"),
            "64",
            "10 epochs",
            (DEPTH_MUP, NO_ROOT),
        ),
    ),
    Artefact(
        id="sc_fig19",
        title="A ResNet on ImageNet over the width",
        place="Figure 19",
        shows="transfer and sharpness of a ResNet on ImageNet over the width",
        stage="gather",
        spec=OnePassSpec,
        tables="tables:tabulate",
        drawing="drawing:draw",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=_reading(
            "width", "N", 16, "One pass over the data: above under μP, below and not in the paper under NTP."
        ),
        settings=_settings(
            _OVER_WIDTH[0],
            Setting("Data", "ImageNet", "spec:data.name"),
            _OVER_WIDTH[1],
            "128",
            "1 epoch",
            (MUP, NTP),
        ),
    ),
)
