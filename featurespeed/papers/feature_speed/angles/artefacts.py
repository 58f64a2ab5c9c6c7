"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.feature_speed.angles.spec import InitSpec, OverDepthSpec
from featurespeed.papers.feature_speed.facts import SAMPLER

_RESNET = "f_l = √(1−β²) f_(l−1) + β W_l relu(f_(l−1)); β = 1 is the MLP. Embedding and readout are not trained."
_NETWORK = Setting("Network", _RESNET, "text:the same")
_INPUT = Setting("Input dimension d", "10; one Gaussian input with entries of variance 1/d", "column:input_dim")
_LEARNING_RATES = Setting("Layer learning rates", "dt / (L |gradient|²)", "text:the same")
_ANGLE_ESTIMATOR = Setting("Finite step dt", "0.001, its only estimator", "spec:finite_step")
_THEORY = Setting("Theory drawn", "none", "text:infinite-width recursion (ours)")
_LINES = (
    "Lines and dark bands: mean of exact samples with its 95% interval; light bands: where 95% of single draws fall. "
)
_DOTS = "Dots: dense networks by the exact tangent, with a dark core where the finite step lands. "

COMPARISON = "claims:compare_with_published"

ARTEFACTS = (
    Artefact(
        id="fsf_fig1a",
        title="Backward-feature angle through the layers",
        place="Figure 1a",
        shows="backward-feature angle (BFA) along the layers",
        showcase=(
            "Figure 1a of the first paper, reproduced: the angle between the velocity of a layer's features and the "
            "backward pass, for five strengths β of the residual branch. Diamonds: points read off the paper's own "
            "figure. Dashed: our infinite-width theory."
        ),
        stage="init_bfa",
        spec=InitSpec,
        tables="tables:tabulate_fig1a",
        drawing="drawing:draw_fig1a",
        size=(7.2, 4.6),
        points="published.csv",
        reading="The angle between a layer's velocity and the backward direction, layer by layer, at initialisation. "
        "It keeps growing in the MLP, settles at a finite value for β of order 1/√L, and vanishes for β = 1/L. "
        + _DOTS
        + _LINES,
        settings=(
            _NETWORK,
            Setting("Depth L", "200", "column:depth"),
            Setting("Width m", "200", WIDTH),
            Setting("Branch scales", "1/L, 1/(2√L), 1/√L, 2/√L, 1", "series"),
            Setting("Draws", "5", "seeds:jvp"),
            _INPUT,
            _LEARNING_RATES,
            _ANGLE_ESTIMATOR,
            SAMPLER,
            _THEORY,
        ),
    ),
    Artefact(
        id="fsf_fig1b",
        title="Output backward-feature angle against depth",
        place="Figure 1b",
        shows="angle at the last hidden layer against depth",
        stage="init_bfa",
        spec=OverDepthSpec,
        tables="tables:tabulate_fig1b",
        drawing="drawing:draw_fig1b",
        size=(7.2, 4.6),
        points="published.csv",
        reading="The angle at the last hidden layer against depth: constant for β of order 1/√L, towards π/2 for the "
        "MLP, towards 0 for β = 1/L. " + _DOTS + _LINES,
        settings=(
            _NETWORK,
            Setting("Depths L", "10, 11, …, 200", "column:depth"),
            Setting("Width m", "200", WIDTH),
            Setting("Branch scales", "1/L, 1/(2√L), 1/√L, 2/√L, 0.999 (labelled MLP)", "series"),
            Setting("Draws per depth", "1", "seeds:jvp"),
            _INPUT,
            _LEARNING_RATES,
            _ANGLE_ESTIMATOR,
            SAMPLER,
            _THEORY,
        ),
    ),
    Artefact(
        id="fsf_fig1c",
        title="Output backward-feature angle against c = sqrt(L) beta",
        place="Figure 1c",
        shows="the same against c = √L β at three depths",
        stage="init_bfa",
        spec=InitSpec,
        tables="tables:tabulate_fig1c",
        drawing="drawing:draw_fig1c",
        size=(7.2, 4.6),
        reading="The output angle at three depths falls on one curve φ(c) when drawn against c = √L β. Large dots: the "
        "mean of the draws, which is what the paper shows. " + _LINES,
        settings=(
            _NETWORK,
            Setting("Depths L", "30, 100, 500", "column:depth"),
            Setting("Width m", "500 in the authors' code (the caption says 200)", WIDTH),
            Setting("Branch scales", "20, evenly spaced in log from 0.001 to 1", "column:branch_scale"),
            Setting("Draws", "mean of 5", "seeds:jvp"),
            Setting(
                "Outputs k", "trial k had k outputs, because a loop variable hid the dimension", "column:output_dim"
            ),
            _INPUT,
            _ANGLE_ESTIMATOR,
            SAMPLER,
            _THEORY,
        ),
    ),
)
