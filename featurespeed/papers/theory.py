"""Facts about the artefacts of the two-layer theory of arXiv:2402.17457."""

from __future__ import annotations

from featurespeed.papers.entries import WIDTH, ArtefactFacts, Setting

FACTS: dict[str, ArtefactFacts] = {
    "sc_theory": ArtefactFacts(
        "Section 5",
        "The theory of the two-layer linear network computed in float64. Top: the evolution laws of (w, e, v) follow "
        "gradient descent to rounding, and their first-order part does not; what the residual part adds to the "
        "sharpness, over its bound; converged runs end below 2/η₀, not at the edge as printed, and above the sharpness "
        "of the flattest minimiser, 2γ|w*|/√(ND). Bottom: how fast (w, e, v) concentrate at initialisation and along "
        "training; and the Hessian of the cross-entropy by the outputs, which vanishes as the fit gets perfect.",
        (
            Setting("How", "proved", "text:measured on small networks in float64"),
            Setting("Loss", "|w − w*|²/2: white inputs", "text:the same, w* = 1"),
            Setting("Widths N", "any", WIDTH),
            Setting("Input dimensions D", "any", "column:input_dim"),
            Setting("γ₀", "any", "spec:laws.gammas"),
            Setting("Parameterizations", "μP, NTP; SP at initialisation", "column:parameterization"),
            Setting("Seeds", "none", "seeds:training"),
        ),
    ),
    "sc_fig05": ArtefactFacts(
        "Figure 5",
        "The sharpness along training, its Gauss-Newton and its residual part, for a two-layer linear network on "
        "random "
        "data. Under μP every width sharpens alike; under NTP sharpening fades as the width grows. The residual part "
        "carries the sharpness at the start under μP and vanishes with the loss. Lines are medians over seeds, bands "
        "their range; a seed draws data and weights. Eigenvalues are exact (to rounding), not estimated.",
        (
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
    "sc_fig10": ArtefactFacts(
        "Figure 10",
        "Exact gradient descent on the two-layer linear toy. Top: loss and sharpness against the step. Bottom: where "
        "the sharpness ends, against the width; dotted is the flattest minimiser, 2γ|w*|/√(ND). Under μP every width "
        "ends at 2 for η₀ < 1 and cycles for ever above; under NTP the terminal sharpness falls with the width. Hollow "
        "points cycle; a cross, at 2/η₀, is a width at which a seed diverged.",
        (
            Setting("Loss", "|w − w*|²/2 with w* = 1", "text:the same"),
            Setting("Input dimension D", "100", "column:input_dim"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Base learning rates", "grids that differ for μP and NTP", "spec:learning_rates"),
            Setting("Steps", "not given", "spec:steps"),
            Setting("Seeds", "not given", "seeds:training"),
        ),
    ),
}
