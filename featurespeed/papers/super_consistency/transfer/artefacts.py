"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.transfer.spec import EarlyWidthSpec, WidthTransferSpec

_TRANSFER = (
    Setting("Parameterizations", "NTP and μP", "column:parameterization"),
    Setting("Optimizer", "SGD, cross-entropy; momentum not given", "column:optimizer"),
    Setting("Channels", "not given", WIDTH),
    Setting("Base learning rates, μP", "not given; the best one is 0.7 to 0.8", "spec:networks.muP.learning_rates"),
    Setting("Base learning rates, NTP", "not given", "spec:networks.NTP.learning_rates"),
    Setting("Batch size", "128", "spec:networks.muP.batch_size"),
)
_CURVATURE = (
    Setting("Sharpness", "PyHessian: power iteration, 100 iterations, tolerance 1e-3", "text:Lanczos"),
    Setting("Images it is measured on", "one fixed batch", "spec:curvature.images"),
    Setting("Measured after steps", "not given", "spec:probe_steps"),
    Setting("Seeds", "not given", "spec:seeds"),
    Setting(
        "Bands and intervals",
        "not given",
        "text:bands: range over seeds; shifts and exponents: 95%, t over seeds",
    ),
)

ARTEFACTS = (
    Artefact(
        id="sc_fig01",
        title="Sharpness, loss and learning rate transfer over the width",
        place="Figure 1",
        shows="sharpness, loss and transfer of the learning rate over the width, μP and NTP",
        showcase_scale="paper",
        showcase=(
            "Figure 1 of the second paper, reproduced at its own length: the authors' network on CIFAR-10, 50 epochs, "
            "five seeds. From N = 64 to 1024 the best learning rate moves by 0.7 steps of 2 under μP (95% interval 0.6 "
            "to 0.8) and by 3.0 under NTP (2.9 to 3.1). At its best rate the sharpness of μP rises to the edge of "
            "stability alike at every width (exponent in N 0.02); that of NTP, at one rate for all widths, falls as "
            "N^-0.17."
        ),
        stage="gather",
        spec=WidthTransferSpec,
        tables="tables:tabulate_fig01",
        drawing="drawing:draw_fig01",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Does the best learning rate of a narrow network suit a wide one? Left: training loss over the last "
            "tenth of the steps against the base learning rate; diamonds mark the best one of every width, crosses "
            "rates at which a seed diverged, died or ended at chance, and the number is the shift of the best rate "
            "over a factor 16 in the width, in steps of a factor 2, each seed's best rate being the lowest "
            "point of a parabola. Middle: sharpness along training at the best rate of those where it was measured; "
            "under μP the widths should lie on each other near 2/η₀ (dotted), under NTP they spread. The number is the "
            "exponent in N of its mean over the second half of training, there and at the next smaller rate. Right: "
            "training loss there."
        ),
        settings=(
            Setting("Layers of the ConvNet", "2", "column:depth"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Augmentation: largest rotation, degrees", "10; also crop and flip", "spec:data.rotation"),
            *_TRANSFER,
            Setting("Training steps", "50 epochs", "spec:steps"),
            *_CURVATURE,
        ),
    ),
    Artefact(
        id="sc_fig24",
        title="Early dynamics over the width",
        place="Figure 24",
        shows="the first steps: who reaches the edge when",
        stage="gather",
        spec=EarlyWidthSpec,
        tables="tables:tabulate_fig24",
        drawing="drawing:draw_fig24",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "The first steps of the runs of Figure 26, at one learning rate a network. Left: training loss. Middle: "
            "sharpness with the edge 2/η₀ and nine tenths of it (dotted); diamonds mark when the median seed of a "
            "width rises to the latter. A network that begins above it counts when it has fallen below and come "
            "back. The numbers are exponents in N: of the sharpness in the second half of these steps, and of the "
            "steps to the edge. Right: sharpness against the width at a few steps. Under μP the widths should "
            "sharpen together, under NTP wider ones later."
        ),
        settings=(
            Setting("Layers of the ConvNet", "3", "column:depth"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Augmentation: largest rotation, degrees", "none", "spec:data.rotation"),
            *_TRANSFER,
            Setting("Learning rates drawn", "0.8 and 8", "spec:shown"),
            Setting("Training steps", "1 epoch", "spec:steps"),
            Setting("Steps drawn", "1 epoch", "spec:early_steps"),
            *_CURVATURE,
        ),
    ),
    Artefact(
        id="sc_fig26",
        title="Random features, muP and NTP: transfer and sharpness",
        place="Figure 26",
        shows="random features, μP and NTP",
        stage="gather",
        spec=WidthTransferSpec,
        tables="tables:tabulate_fig26",
        drawing="drawing:draw_fig26",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Transfer as in Figure 1, beside a network of which only the readout learns. Above: training loss over "
            "the last tenth of the steps against the base learning rate, with the best rate of every width and its "
            "shift in steps of a factor 2; the shift of random features should lie between those of μP and NTP. "
            "Below: sharpness along training at the best rate of those where it was measured, with 2/η₀ (dotted): "
            "without feature learning it does not sharpen."
        ),
        settings=(
            Setting("Layers of the ConvNet", "3", "column:depth"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Augmentation: largest rotation, degrees", "none", "spec:data.rotation"),
            *_TRANSFER,
            Setting(
                "Base learning rates, random features", "not given", "spec:networks.random features.learning_rates"
            ),
            Setting("Training steps", "20 epochs, random features 10", "spec:steps"),
            *_CURVATURE,
        ),
    ),
)
