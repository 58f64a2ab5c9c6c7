"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import Artefact, Setting
from featurespeed.papers.super_consistency.depth.spec import DepthCurveSpec, DepthSpectrumSpec, DepthTransferSpec

_NETWORKS = (
    Setting("Parameterization", "Depth-μP", "column:parameterization"),
    Setting("Data", "CIFAR-10", "spec:data.name"),
    Setting("Optimizer", "SGD, cross-entropy", "column:optimizer"),
    Setting("Depths L (blocks)", "3 to 60; in the authors' code 3 to 192 with two layers a block", "column:depth"),
    Setting("Channels, 1 layer a block", "N = 128; 64 in the authors' code", "spec:networks.1 layer a block.widths"),
    Setting("Channels, 2 layers a block", "N = 32; 16 in the authors' code", "spec:networks.2 layers a block.widths"),
    Setting("Batch size", "not given", "spec:networks.1 layer a block.batch_size"),
    Setting(
        "Warm-up steps", "not given; 200 in the authors' code", "spec:networks.1 layer a block.optimizer.warmup_steps"
    ),
    Setting("Training steps", "not given; 40 and 80 epochs in the authors' code", "spec:steps"),
)
_MEASURED = (
    Setting("Images measured on", "one fixed batch; 1024 in the authors' code", "spec:curvature.images"),
    Setting("Measured after steps", "not given", "spec:probe_steps"),
    Setting("Seeds", "not given; 2 in the authors' code", "spec:seeds"),
)
_LEFT_OUT = (
    "Seeds of which a network failed at that rate are left out of what is measured along training, up to a fifth of "
    "those of a depth."
)

ARTEFACTS = (
    Artefact(
        id="sc_fig04",
        title="Transfer and sharpness over the depth, one and two layers a block",
        place="Figures 4a and 4b",
        shows="transfer and sharpness over the depth: one and two layers a block",
        stage="gather",
        spec=DepthTransferSpec,
        tables="tables:tabulate_fig04",
        drawing="drawing:draw_fig04",
        size=(11.4, 6.6),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "Does the best learning rate of a shallow residual network suit a deep one? Residual branches are "
            "multiplied with 1/√L; a block has one weight layer (above) or two (below). Left: training loss over the "
            "last tenth of the steps against the base learning rate; diamonds mark the best one of every depth, "
            "crosses rates at which a seed diverged, died or ended at chance, and the number is the shift of the "
            "best rate over a factor 8 in the depth, in steps of a factor 2; best rates of the authors' own sweeps "
            "stand on the axis (hollow) if network and data are theirs and training is a quarter as long at least. "
            "Middle: sharpness along training at the best rate of those where it was measured, with 2/η₀ (dotted); "
            "the numbers are the exponents in L of its mean over the second half of training, there and at the next "
            "smaller rate. Right: training loss "
            f"there. {_LEFT_OUT}"
        ),
        settings=(
            *_NETWORKS,
            Setting(
                "Base learning rates, 1 layer a block",
                "not given; 0.1 to 3.16 in the authors' code",
                "spec:networks.1 layer a block.learning_rates",
            ),
            Setting(
                "Base learning rates, 2 layers a block",
                "not given; 0.1 to 3.3 in the authors' code",
                "spec:networks.2 layers a block.learning_rates",
            ),
            *_MEASURED,
            Setting("Bands and intervals", "not given", "text:bands: range over seeds; numbers: 95%, t over seeds"),
        ),
    ),
    Artefact(
        id="sc_fig22",
        title="Distance from infinite depth along training",
        place="Figure 22",
        shows="convergence rates over the depth",
        stage="gather",
        spec=DepthCurveSpec,
        tables="tables:tabulate_fig22",
        drawing="drawing:draw_fig22",
        size=(13.0, 6.4),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "How far networks are from the deepest one, which stands for infinite depth, along the runs of Figure 4: "
            "above with one layer a block, below with two. From the left: the loss; the distance of the loss and that "
            "of the sharpness (dots; bars: standard error), taken seed by seed with the seed noise subtracted, with "
            "the noise floor (grey, dashed), below which there is no distance, and powers of time fitted above it "
            "after the first tenth of the steps (dashed); the exponents b by depth with the jackknife over seeds. If "
            f"the sharpness is super consistent it drifts away more slowly than the loss. {_LEFT_OUT}"
        ),
        settings=(
            *_NETWORKS,
            Setting("Proxy of infinite depth", "the deepest network", "text:the deepest network"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_fig25",
        title="Eigenvalues of the Hessian and of the NTK over the depth",
        place="Figure 25",
        shows="eigenvalues of the Hessian and of the NTK over the depth",
        stage="gather",
        spec=DepthSpectrumSpec,
        tables="tables:tabulate_fig25",
        drawing="drawing:draw_fig25",
        size=(12.4, 6.2),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "Eigenvalues of γ²H and the top eigenvalue of the NTK along training, one line a depth: above with one "
            "layer a block, below with two. The numbers are the exponents in L of the means over the second half of "
            "training; with two layers a block the eigenvalues should spread over the depth. Lines are means over "
            "seeds, bands their range. Diamonds, where our network, data and rate are theirs: the authors' run, whose "
            f"batch size is not known, by epochs. {_LEFT_OUT}"
        ),
        settings=(
            *_NETWORKS,
            Setting(
                "Base learning rate, 2 layers a block",
                "not given; 1.22 in the authors' code",
                "spec:networks.2 layers a block.measured",
            ),
            Setting("Eigenvalues", "1, 5 and 10 in the authors' code", "spec:curvature.eigenvalues"),
            *_MEASURED,
        ),
    ),
)
