"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.batch_size.spec import AugmentedBatchSpec, LateSpec, PlainBatchSpec
from featurespeed.papers.super_consistency.readings import ALONG_TRAINING

_NETWORK = (
    Setting("Parameterization", "μP", "column:parameterization"),
    Setting("Layers of the ConvNet", "3, without skip connections", "column:depth"),
    Setting("Data", "CIFAR-10", "spec:data.name"),
)
_TRAINED = (
    Setting("Optimizer", "SGD, cross-entropy", "column:optimizer"),
    Setting("Channels", "not given", WIDTH),
)
_MEASURED = (
    Setting("Images measured on", "one fixed batch; 1024 in the authors' code", "spec:curvature.images"),
    *ALONG_TRAINING,
)
_BATCHES = (
    *_TRAINED,
    Setting("Batch size, B", "128", "spec:networks.B.batch_size"),
    Setting("Batch size, 2B", "256", "spec:networks.2B.batch_size"),
    Setting("Batch size, 4B", "512", "spec:networks.4B.batch_size"),
    Setting("Base learning rates, B", "not given", "spec:networks.B.learning_rates"),
    Setting("Base learning rates, 2B", "not given", "spec:networks.2B.learning_rates"),
    Setting("Base learning rates, 4B", "not given", "spec:networks.4B.learning_rates"),
    Setting("Sharpness measured at, B", "0.32, 0.88, 2.45", "spec:networks.B.measured"),
    Setting("Sharpness measured at, 2B", "0.32, 0.88, 2.45", "spec:networks.2B.measured"),
    Setting("Sharpness measured at, 4B", "0.32, 0.88, 2.45", "spec:networks.4B.measured"),
    Setting("Training steps at B; a half and a quarter of them at 2B and 4B", "50 epochs", "spec:steps"),
    *_MEASURED,
)
_LEFT_OUT = (
    "Seeds of which a network failed at that rate are left out of what is measured along training, up to a fifth of "
    "those of a width."
)
_TRANSFER = (
    "Does the best learning rate grow with the batch size, and does it transfer over the width at each of them? A "
    "column a batch size, for equally many epochs. Above: training loss over the last tenth of the steps against the "
    "base learning rate; diamonds mark the best one of every width, crosses rates at which a seed diverged, died or "
    "ended at chance, and the number is the shift of the best rate over a factor 16 in the width, in steps of a "
    "factor 2. Below: sharpness along training at the best rate of those where it was measured, with 2/η₀ "
    "(dotted) and the line 4/η₀ that the paper draws (dashed); the numbers are the exponents in N of its mean over the "
    "second half of training, there and at the next smaller rate. "
)

ARTEFACTS = (
    Artefact(
        id="sc_fig12",
        title="Late training, with and without augmentation",
        place="Figure 12",
        shows="late in training: when the sharpness falls, with and without augmentation",
        stage="gather",
        spec=LateSpec,
        tables="tables:tabulate_fig12",
        drawing="drawing:draw_fig12",
        size=(12.0, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "What becomes of the sharpness when training goes on: without augmentation (above), where networks learn "
            "their images by heart, it should fall from the edge of stability, and earlier in wider networks; with "
            "augmentation (below, which this figure of the paper does not show) later or not at all. Left: training "
            "loss. Middle: sharpness with 2/η₀ (dotted); diamonds mark the peak of a width that later falls to 0.8 of "
            "it or less, at the median step of the seeds and the mean height. Numbers: the exponent in N of the steps "
            "to 0.9 of 2/η₀, and the logarithm of the sharpness over the last tenth of the steps over its peak. Right: "
            "these steps against the width (medians; bars: range over seeds; networks that never fall at the last "
            "step), with the exponent in N of the onset. Both networks have one learning rate. Seeds of which a "
            "network failed, with or without augmentation, are left out of both."
        ),
        settings=(
            *_NETWORK,
            Setting("Training images", "all 50,000", "spec:data.examples"),
            Setting(
                "Augmentation, second line: largest rotation, degrees",
                "none in this figure; 10 elsewhere, with crop and flip",
                "spec:networks.augmentation.data.rotation",
            ),
            *_TRAINED,
            Setting("Base learning rates", "not given", "spec:networks.no augmentation.learning_rates"),
            Setting("Batch size", "128", "spec:networks.no augmentation.batch_size"),
            Setting("Training steps", "more than the 20 epochs of Figure 26", "spec:steps"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_fig13",
        title="Batch sizes with augmentation",
        place="Figure 13",
        shows="transfer and sharpness at three batch sizes, with augmentation (the text's reading)",
        stage="gather",
        spec=AugmentedBatchSpec,
        tables="tables:tabulate_fig13",
        drawing="drawing:draw_fig13",
        size=(12.0, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            f"{_TRANSFER}Here with augmentation, as the text says of Figure 13; its caption says without, and the "
            f"captions of Figures 13 and 14 have it the other way round. {_LEFT_OUT}"
        ),
        settings=(
            *_NETWORK,
            Setting(
                "Augmentation: largest rotation, degrees",
                "text: 10, with crop and flip; caption: none",
                "spec:data.rotation",
            ),
            *_BATCHES,
        ),
    ),
    Artefact(
        id="sc_fig14",
        title="Batch sizes without augmentation",
        place="Figure 14",
        shows="transfer and sharpness at three batch sizes, without augmentation (the text's reading)",
        stage="gather",
        spec=PlainBatchSpec,
        tables="tables:tabulate_fig13",
        drawing="drawing:draw_fig13",
        size=(12.0, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            f"{_TRANSFER}Here without augmentation, as the text says of Figure 14; its caption says with, and the "
            f"captions of Figures 13 and 14 have it the other way round. {_LEFT_OUT}"
        ),
        settings=(
            *_NETWORK,
            Setting(
                "Augmentation: largest rotation, degrees",
                "text: none; caption: 10, with crop and flip",
                "spec:data.rotation",
            ),
            *_BATCHES,
        ),
    ),
)
