"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.two_layer.spec import ToySpec, TwoLayerRunsSpec, TwoLayerTheorySpec

ARTEFACTS = (
    Artefact(
        id="sc_fig05",
        title="Gauss-Newton and residual parts of a two-layer linear network",
        place="Figure 5",
        shows="Gauss-Newton and residual parts of a two-layer linear network",
        stage="two_layer",
        spec=TwoLayerRunsSpec,
        tables="tables:tabulate_fig05",
        drawing="drawing:draw_fig05",
        size=(11.4, 8.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "The sharpness along training, its Gauss-Newton and its residual part, for a two-layer linear network on "
            "random data. Under μP every width sharpens alike; under NTP sharpening fades as the width grows. The "
            "residual part carries the sharpness at the start under μP and vanishes with the loss. Lines are medians "
            "over seeds, bands their range; a seed draws data and weights. Eigenvalues are exact (to rounding), not "
            "estimated."
        ),
        settings=(
            Setting("Network", "two-layer linear", "text:the same"),
            Setting("Data", "random", "text:Gaussian inputs; labels of a linear teacher and noise"),
            Setting("Samples", "not given", "spec:samples"),
            Setting("Input dimension D", "not given", "column:input_dim"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Base learning rates", "not given", "spec:learning_rates"),
            Setting("Measured after steps", "not given", "column:step"),
            Setting("Seeds", "not given", "seeds:training"),
        ),
    ),
    Artefact(
        id="sc_fig10",
        title="The two-layer linear toy",
        place="Figure 10",
        shows="the two-layer linear toy",
        stage="two_layer_toy",
        spec=ToySpec,
        tables="tables:tabulate_fig10",
        drawing="drawing:draw_fig10",
        size=(11.4, 9.0),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Exact gradient descent on the two-layer linear toy. Top: loss and sharpness against the step. Bottom: "
            "where the sharpness ends, against the width; dotted is the flattest minimiser, 2γ|w*|/√(ND). Under μP "
            "every width ends at 2 for η₀ < 1 and cycles for ever above; under NTP the terminal sharpness falls with "
            "the width. Hollow points cycle; a cross, at 2/η₀, is a width at which a seed diverged."
        ),
        settings=(
            Setting("Loss", "|w − w*|²/2 with w* = 1", "text:the same"),
            Setting("Input dimension D", "100", "column:input_dim"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Base learning rates", "grids that differ for μP and NTP", "spec:learning_rates"),
            Setting("Steps", "not given", "spec:steps"),
            Setting("Seeds", "not given", "seeds:training"),
        ),
    ),
    Artefact(
        id="sc_theory",
        title="Two-layer linear theory",
        place="Section 5",
        shows="theorems of the two-layer linear network, tested in float64",
        stage="two_layer_theory",
        spec=TwoLayerTheorySpec,
        tables="tables:tabulate_theory",
        drawing="drawing:draw_theory",
        size=(11.4, 7.4),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "The theory of the two-layer linear network computed in float64. Top: the evolution laws of (w, e, v) "
            "follow gradient descent to rounding, and their first-order part does not; what the residual part adds "
            "to the sharpness, over its bound; converged runs end below 2/η₀, not at the edge as printed, and above "
            "the sharpness of the flattest minimiser, 2γ|w*|/√(ND). Bottom: how fast (w, e, v) concentrate at "
            "initialisation and along training; and the Hessian of the cross-entropy by the outputs, which vanishes "
            "as the fit gets perfect."
        ),
        settings=(
            Setting("How", "proved", "text:measured on small networks in float64"),
            Setting("Loss", "|w − w*|²/2: white inputs", "text:the same, w* = 1"),
            Setting("Widths N", "any", WIDTH),
            Setting("Input dimensions D", "any", "column:input_dim"),
            Setting("γ₀", "any", "spec:laws.gammas"),
            Setting("Parameterizations", "μP, NTP; SP at initialisation", "column:parameterization"),
            Setting("Seeds", "none", "seeds:training"),
        ),
    ),
)
