"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.edge_of_stability.bridge.spec import ReachSpec
from featurespeed.papers.edge_of_stability.facts import NOT_KNOWN, QUADRATIC, SCALING
from featurespeed.papers.entries import Artefact, Setting

ARTEFACTS = (
    Artefact(
        id="beos_bridge",
        title="ConvNets of the second paper under scaled descent",
        place="The second paper's ConvNets beyond their edge (ours)",
        shows="do gradient scalings and a quadratic width pattern take the second paper's ConvNets past their edge?",
        stage="gather_descent",
        spec=ReachSpec,
        tables="tables:tabulate_beos_bridge",
        drawing="drawing:draw_beos_bridge",
        size=(12.6, 8.4),
        gpu=False,
        reading=(
            "Do scaled gradients take the ConvNets of the second paper past their edge of stability, and does a "
            "quadratic width pattern help? The learning rate is κ times the edge at initialisation (dotted), in "
            "units of each scaling and network. Above: the share of seeds that train (finite, no dead layer, a loss "
            "below chance at the end), and what those that got to the end look like; hollow where some seeds did "
            "not. Left of each pair equal numbers of channels, right a quadratic pattern with as many weights. "
            "Below, left: the largest κ up to which all seeds train, with the share of steps beyond the edge of the "
            "minibatch's own quadratic model. Below, right: what a scaling gains over none, and r = 2 over r = 0, in "
            "steps of 2, mean over seeds of each one's own largest κ; in the shaded region the claims hold. An open "
            "end or a hollow symbol says that the grid of κ ends too early. Scalings and networks are ours: the "
            "abstract speaks of MLPs."
        ),
        settings=(
            Setting(
                "Networks", "abstract only: MLPs", "text:plain μP ConvNets, 3x3, ReLU, flat readout (second paper)"
            ),
            Setting("Gradient scalings", SCALING, "column:scaling"),
            Setting("Width pattern", QUADRATIC, "series"),
            Setting("Number of weights", NOT_KNOWN, "spec:networks.r = 0.parameters"),
            Setting("Weight layers l", NOT_KNOWN, "spec:layers"),
            Setting("Data", NOT_KNOWN, "spec:data.name"),
            Setting("Minibatch", "abstract only: minibatches, size not known", "spec:batch_size"),
            Setting("Training steps", NOT_KNOWN, "spec:steps"),
            Setting("κ", NOT_KNOWN, "spec:kappas"),
            Setting("Images of the curvature", NOT_KNOWN, "spec:curvature_images"),
            Setting("Seeds", NOT_KNOWN, "spec:seeds"),
            Setting("Bars", NOT_KNOWN, "text:95%, bootstrap over seeds; gains: t interval, paired"),
        ),
    ),
)
