"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.adam.spec import AdamDepthSpec, AdamWidthSpec
from featurespeed.papers.super_consistency.readings import ALONG_TRAINING, PRECONDITIONED, TRANSFER

_DATA = (
    Setting("Data", "CIFAR-10", "spec:data.name"),
    Setting("Augmentation: largest rotation, degrees", "10; also crop and flip", "spec:data.rotation"),
)
_CURVATURE = (
    Setting("Images measured on", "one fixed batch; 1024 in the authors' code", "spec:curvature.images"),
    *ALONG_TRAINING,
)

ARTEFACTS = (
    Artefact(
        id="sc_fig20",
        title="Depth-muP with Adam, one and two layers a block",
        place="Figure 20",
        shows="Depth-μP with Adam, one and two layers a block",
        stage="gather",
        spec=AdamDepthSpec,
        tables="tables:tabulate_fig20",
        drawing="drawing:draw_fig20",
        size=(13.6, 6.4),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "Does the best learning rate of a shallow residual network suit a deep one with Adam, too? Residual "
            "branches are multiplied with 1/√L; the learning rate of their layers has another 1/√L in the two columns "
            "on the left, as in the table of the paper, and none in those on the right. Above: "
            + TRANSFER.format(size="depth", span=8)
            + " Below: "
            + PRECONDITIONED.format(size="depth", symbol="L")
        ),
        settings=(
            Setting("Parameterization", "Depth-μP", "column:parameterization"),
            *_DATA,
            Setting("Optimizer", "Adam, cross-entropy", "column:optimizer"),
            Setting(
                "Learning rate of hidden layers",
                "η₀/√(N L) in the paper's table; η₀γ² at all layers in the authors' code, without 1/√L here",
                "text:η₀/√(N L) in blocks, or without L; η₀/√N between blocks",
            ),
            Setting("Depths L (blocks)", "not given; 3 to 48 in the authors' code", "column:depth"),
            Setting("Channels", "not given; 8 in the authors' code", WIDTH),
            Setting("Batch size", "not given; 256 in the authors' code", "spec:networks.1 layer a block.batch_size"),
            Setting(
                "Warm-up steps",
                "not given; 100 in the authors' code",
                "spec:networks.1 layer a block.optimizer.warmup_steps",
            ),
            Setting("Training steps", "not given; 50 epochs in the authors' code", "spec:steps"),
            Setting(
                "Base learning rates, 1 layer a block",
                "not given; 0.0001 to 0.01 in the authors' code, at all layers",
                "spec:networks.1 layer a block.learning_rates",
            ),
            Setting(
                "Sharpness",
                "N/√L times the Hessian, without a preconditioner; times γ² in the authors' code",
                "text:of D P⁻¹ H, Adam's rates over its preconditioner",
            ),
            Setting("Adam's ε", "not given", "spec:networks.1 layer a block.optimizer.epsilon"),
            *_CURVATURE,
        ),
    ),
    Artefact(
        id="sc_fig21",
        title="muP with Adam and AdamW over the width",
        place="Figure 21",
        shows="μP with Adam and AdamW over the width",
        stage="gather",
        spec=AdamWidthSpec,
        tables="tables:tabulate_fig21",
        drawing="drawing:draw_fig21",
        size=(11.4, 6.4),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "Transfer over the width with Adam and AdamW under μP, each layer at its own rate as in the table of the "
            "paper; on the right with one rate η₀γ² for all layers, as in the authors' code, whose own best rates "
            "(hollow, on the axis) stand beside if network and data are theirs. Above: "
            + TRANSFER.format(size="width", span=16)
            + " Below: "
            + PRECONDITIONED.format(size="width", symbol="N")
        ),
        settings=(
            Setting("Parameterization", "μP", "column:parameterization"),
            Setting("Layers of the ConvNet", "3, no skips", "column:depth"),
            *_DATA,
            Setting("Optimizer", "Adam, AdamW, cross-entropy", "column:optimizer"),
            Setting("Weight decay of AdamW", "0.001", "spec:networks.AdamW.optimizer.weight_decay"),
            Setting("Channels", "not given; 16 to 256 in the authors' code", WIDTH),
            Setting("Base learning rates, Adam", "not given", "spec:networks.Adam.learning_rates"),
            Setting(
                "Base learning rates, one for all layers",
                "not given; 0.00001 to 0.003 in the authors' code",
                "spec:networks.Adam, one rate for all layers.learning_rates",
            ),
            Setting("Batch size", "256", "spec:networks.Adam.batch_size"),
            Setting("Warm-up steps", "200", "spec:networks.Adam.optimizer.warmup_steps"),
            Setting("Training steps", "20 epochs", "spec:steps"),
            Setting("Adam's ε", "not given", "spec:networks.Adam.optimizer.epsilon"),
            *_CURVATURE,
        ),
    ),
)
