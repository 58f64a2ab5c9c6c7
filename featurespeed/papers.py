"""What the papers did: the facts that the page sets beside each run.

A setting names one choice of a paper and says where this run's own value is found: ``column:NAME`` (values of a column
of the stage table), ``spec:NAME`` (a setting stored in the table; ``NAME.KEY`` inside a block), ``seeds:ESTIMATOR``
(seeds behind one point), ``series``, or ``text:...``. The page therefore shows what the records hold, not what somebody
meant to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One row of the comparison: a label, the paper's choice, and the source of this run's."""

    label: str
    paper: str
    run: str


@dataclass(frozen=True)
class ArtefactFacts:
    """What an artefact shows, how to read it, and what the paper did."""

    place: str
    reading: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Paper:
    """A replicated paper; ``group`` is the name of its target, ``short`` what the page calls it in its bar."""

    group: str
    short: str
    title: str
    authors: str
    venue: str
    arxiv: str


PAPERS: tuple[Paper, ...] = (
    Paper(
        "fsf",
        "Feature speed",
        "The Feature Speed Formula",
        "L. Chizat and P. Netrapalli",
        "NeurIPS 2024",
        "2311.18718",
    ),
    Paper(
        "sc",
        "Super consistency",
        "Super Consistency of Neural Network Landscapes and Learning Rate Transfer",
        "L. Noci, A. Meterez, T. Hofmann and A. Orvieto",
        "NeurIPS 2024",
        "2402.17457",
    ),
)

_WIDTH = "column:width"
_RESNET = "f_l = √(1−β²) f_(l−1) + β W_l relu(f_(l−1)); β = 1 is the MLP. Embedding and readout are not trained."
_NETWORK = Setting("Network", _RESNET, "text:the same")
_INPUT = Setting("Input dimension d", "10; one Gaussian input with entries of variance 1/d", "column:input_dim")
_LEARNING_RATES = Setting("Layer learning rates", "dt / (L |gradient|²)", "text:the same")
_ANGLE_ESTIMATOR = Setting("Finite step dt", "0.001, its only estimator", "spec:finite_step")
_SAMPLER = Setting("Exact samples for mean and bands", "none", "seeds:sampler")
_THEORY = Setting("Theory drawn", "none", "text:infinite-width recursion (ours)")

_LINES = (
    "Lines and dark bands: mean of exact samples with its 95% interval; light bands: where 95% of single draws fall. "
)
_DOTS = "Dots: dense networks by the exact tangent, with a dark core where the finite step lands. "

FACTS: Mapping[str, ArtefactFacts] = {
    "fsf_fig1a": ArtefactFacts(
        "Figure 1a",
        "The angle between a layer's velocity and the backward direction, layer by layer, at initialisation. It "
        "keeps growing in the MLP, settles at a finite value for β of order 1/√L, and vanishes for β = 1/L. "
        + _DOTS
        + _LINES,
        (
            _NETWORK,
            Setting("Depth L", "200", "column:depth"),
            Setting("Width m", "200", _WIDTH),
            Setting("Branch scales", "1/L, 1/(2√L), 1/√L, 2/√L, 1", "series"),
            Setting("Draws", "5", "seeds:jvp"),
            _INPUT,
            _LEARNING_RATES,
            _ANGLE_ESTIMATOR,
            _SAMPLER,
            _THEORY,
        ),
    ),
    "fsf_fig1b": ArtefactFacts(
        "Figure 1b",
        "The angle at the last hidden layer against depth: constant for β of order 1/√L, towards π/2 for the MLP,"
        " towards 0 for β = 1/L. " + _DOTS + _LINES,
        (
            _NETWORK,
            Setting("Depths L", "10, 11, …, 200", "column:depth"),
            Setting("Width m", "200", _WIDTH),
            Setting("Branch scales", "1/L, 1/(2√L), 1/√L, 2/√L, 0.999 (labelled MLP)", "series"),
            Setting("Draws per depth", "1", "seeds:jvp"),
            _INPUT,
            _LEARNING_RATES,
            _ANGLE_ESTIMATOR,
            _SAMPLER,
            _THEORY,
        ),
    ),
    "fsf_fig1c": ArtefactFacts(
        "Figure 1c",
        "The output angle at three depths falls on one curve φ(c) when drawn against c = √L β. Large dots: the "
        "mean of the draws, which is what the paper shows. " + _LINES,
        (
            _NETWORK,
            Setting("Depths L", "30, 100, 500", "column:depth"),
            Setting("Width m", "500 in the authors' code (the caption says 200)", _WIDTH),
            Setting("Branch scales", "20, evenly spaced in log from 0.001 to 1", "column:branch_scale"),
            Setting("Draws", "mean of 5", "seeds:jvp"),
            Setting(
                "Outputs k", "trial k had k outputs, because a loop variable hid the dimension", "column:output_dim"
            ),
            _INPUT,
            _ANGLE_ESTIMATOR,
            _SAMPLER,
            _THEORY,
        ),
    ),
    "fsf_fig2a": ArtefactFacts(
        "Figure 2a",
        "How far the last hidden layer moves for a unit of loss decay, in an MLP under three output scales. "
        "Medians, because the NTK's sensitivity 1/|f − y| has no mean. The left panel is the sensitivity; the "
        "right one is the quantity that the authors' code calls by that name. Both axes are logarithmic; dotted "
        "lines are the stated powers of L.",
        (
            Setting("Network", "ReLU MLP, embedding and readout not trained", "text:the same"),
            Setting("Depths L", "5, 6, …, 40", "column:depth"),
            Setting("Width m", "400", _WIDTH),
            Setting("Output scales", "1/√m (NTK), 1/m (MF+μP), √L/m (FSC)", "series"),
            Setting("Draws", "2", "seeds:jvp"),
            Setting("Target y", "1; input on the unit sphere, d = 10", "spec:target"),
            Setting("Finite step dt", "0.01", "spec:finite_step"),
            _SAMPLER,
        ),
    ),
    "fsf_fig2b": ArtefactFacts(
        "Figure 2b",
        "The same quantities in a ResNet: constant in depth for both branch scales. The levels printed in the "
        "paper, about 10.4 and 7.75, do not follow from its stated settings; their ratio does. The ledger reports"
        " the two separately.",
        (
            Setting("Network", "ReLU ResNet, readout of scale 1/m", "text:the same"),
            Setting("Depths L", "20, 21, …, 100", "column:depth"),
            Setting("Width m", "400", _WIDTH),
            Setting("Branch scales", "1/√L and 1/L", "series"),
            Setting("Draws", "2", "seeds:jvp"),
            Setting("Target y", "1", "spec:target"),
            Setting("Finite step dt", "0.01", "spec:finite_step"),
            _SAMPLER,
        ),
    ),
    "fsf_table1": ArtefactFacts(
        "Table 1",
        "Exponents of width m, depth L, input dimension d and output dimension k for each initialisation scale "
        "and layer learning rate, measured by regression (dots, 95% intervals) beside those stated (diamonds). "
        "Below them the four properties: SP, features of unit size; FL, unit feature speed; LD, unit loss decay; "
        "BC, balanced contributions. A property holds where its measured exponents are 0.",
        (
            Setting(
                "How", "derived; the table was rebuilt from the proof of Proposition 5.3", "text:measured by regression"
            ),
            Setting("Scalings", "NTK, MF+μP, FSC", "column:scaling"),
            Setting("Widths m", "none measured", _WIDTH),
            Setting("Depths L", "none measured", "column:depth"),
            Setting("Input dimensions d", "none measured", "column:input_dim"),
            Setting("Output dimensions k", "none measured", "column:output_dim"),
            Setting("Seeds", "none", "seeds:any"),
        ),
    ),
    "fsf_table2": ArtefactFacts(
        "Table 2",
        "The same for the ResNet under the FSC scaling on the ray β ∝ 1/√L, which for constant d and k is depth-μP.",
        (
            Setting(
                "How", "derived; the table was rebuilt from the proof of Proposition 5.4", "text:measured by regression"
            ),
            Setting("Branch scale", "of order 1/√L at most", "spec:branch_scale"),
            Setting("Widths m", "none measured", _WIDTH),
            Setting("Depths L", "none measured", "column:depth"),
            Setting("Input dimensions d", "none measured", "column:input_dim"),
            Setting("Output dimensions k", "none measured", "column:output_dim"),
            Setting("Seeds", "none", "seeds:any"),
        ),
    ),
    "fsf_theory": ArtefactFacts(
        "Theory (ours)",
        "Left: the limit angle φ(c) at infinite width and depth, in closed form, over exact samples. Middle: how "
        "the angle approaches its infinite-width value. Right: for large c, cos φ(c) falls like 1/c; the paper's "
        "text conjectures 1/√c.",
        (
            Setting("φ(c)", "no formula", "text:closed forms for ReLU and linear networks"),
            Setting("Widths m", "no measurement", _WIDTH),
            Setting("Depths L", "no measurement", "column:depth"),
            Setting("Tail of cos φ(c)", "conjectured 1/√c", "text:closed form and exact samples"),
            Setting("Exact samples", "none", "seeds:sampler"),
        ),
    ),
    "fsf_theorems": ArtefactFacts(
        "Theorems",
        "The theorems and propositions computed directly on small networks in float64, at initialisation and along "
        "training. There is no figure: the claims below read the stage table.",
        (
            Setting("How", "proved", "text:measured on small networks"),
            Setting("Widths m", "any", _WIDTH),
            Setting("Depths L", "any", "column:depth"),
            Setting("Seeds", "none", "seeds:any"),
        ),
    ),
    "fsf_training": ArtefactFacts(
        "Training",
        "The formula at every cut node of networks that minibatch SGD trains on images, measured in double "
        "precision on the weights kept along training, each layer under its own learning rate. There is no "
        "figure: the claims below read the stage table.",
        (
            Setting("How", "proved for any network and loss", "text:measured, relative error of the two sides"),
            Setting("Networks", "ResNets and MLPs at initialisation", "series"),
            Setting("Data", "one Gaussian input", "spec:data.name"),
            Setting("Widths", "200 to 500", _WIDTH),
            Setting("Base learning rates", "none: no training", "column:learning_rate"),
            Setting("Measured after steps", "0", "column:step"),
            Setting("Seeds", "1 to 5", "seeds:jvp"),
        ),
    ),
    "sc_fig28": ArtefactFacts(
        "Figure 28",
        "How far the last hidden features have moved after a few steps from one base learning rate, against the "
        "width. Under μP and Depth-μP the lines should be flat; SP grows, NTP falls, random features stand still."
        " Next two lines: the parts of the update at the last step, by a layer's own weights (effective) and by "
        "its moved input (propagating). Bottom: all slopes with intervals. Two further checks of μP: a wrong "
        "rule, the readout multiplier of NTP, which must not come out flat; and outputs that start smaller (γ₀ > "
        "1), because at a finite width they start at a size of 1/√N, which bends the slopes.",
        (
            Setting("Network", "ConvNet", "text:2-layer ConvNet; for Depth-μP a residual one"),
            Setting("Parameterizations", "μP", "column:parameterization"),
            Setting("Optimizers", "not given", "column:optimizer"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Widths N", "not given", _WIDTH),
            Setting("Steps", "not given", "column:step"),
            Setting("Base learning rates", "not given", "spec:learning_rates"),
            Setting("Batch size", "not given", "spec:batch_size"),
            Setting("Seeds", "not given", "seeds:training"),
            Setting("Intervals", "not given", "text:95%, mean of logarithms over seeds; slopes: one fit a seed"),
        ),
    ),
    "sc_table1": ArtefactFacts(
        "Table 1",
        "Exponents in the width N, layer by layer: activations at initialisation, effective and propagating "
        "updates of the first step, measured (dots, 95% intervals) beside those that the table's rules imply "
        "(diamonds). Bottom, left: exponents in the depth L under Depth-μP and, as a control, under μP without "
        "1/√L. Bottom, right: how far the training curves of the two published forms are apart, where they are "
        "one network and where they are not. AdamW has no weight decay in the exponents, so its first step is "
        "Adam's.",
        (
            Setting(
                "How",
                "stated; the table was rebuilt from the text and from μP theory",
                "text:measured by regression",
            ),
            Setting("Network", "Eq. 1, plain and residual", "text:MLP; residual for Depth-μP and over the depth"),
            Setting("Parameterizations", "NTP, μP, Depth-μP, and SP for comparison", "column:parameterization"),
            Setting("Optimizers", "SGD and Adam", "column:optimizer"),
            Setting("Data", "none measured", "spec:data.name"),
            Setting("Widths N", "none measured", "spec:widths"),
            Setting("Depths L", "none measured", "spec:over_depth.depths"),
            Setting("Steps for the two forms", "none measured", "spec:forms.steps"),
            Setting("Seeds", "none", "seeds:training"),
        ),
    ),
    "sc_sharpness_methods": ArtefactFacts(
        "App. J.1",
        "Why the sharpness is measured as it is. Left: the true error of every method against its cost in products "
        "of the Hessian with a vector; small dots are single measurements, large markers medians. Middle: the true "
        "ends of the spectrum along training, and estimates over the true value, of the paper's method and ours. "
        "Right: cost along training. Power iteration stops early, and where a negative eigenvalue dominates it "
        "returns that one, as does every method that looks for the largest magnitude. ARPACK can be asked for the "
        "largest algebraic eigenvalue and, tuned, costs as much as our cold start; what is saved is saved by "
        "starting warm. Errors below 1e-9 stand at 1e-9.",
        (
            Setting("Method", "PyHessian: power iteration, 100 iterations, tolerance 1e-3", "series"),
            Setting("Networks", "ConvNets, Transformers", "column:case"),
            Setting("Parameterization", "μP and others", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Widths N", "varied", "column:width"),
            Setting("Base learning rates", "several", "column:learning_rate"),
            Setting("Measured after steps", "not given", "column:step"),
            Setting("Images measured on", "one fixed batch", "spec:images"),
            Setting("Cold check of a warm start every", "none: every start is cold", "spec:cold_every"),
            Setting("Starts", "1", "seeds:Lanczos"),
        ),
    ),
    "sc_sharpness": ArtefactFacts(
        "Curvature",
        "The sharpness stage on small networks under μP and NTP: eigenvalues of the Hessian, of its Gauss-Newton and "
        "residual parts, of its blocks by layer and of the NTK, its trace, and its curvature along the gradient, on "
        "one fixed batch along training, in units of each layer's learning rate (γ²H). There is no figure: the claims "
        "below check the measurement against inequalities that hold for every matrix.",
        (
            Setting("How", "power iteration (PyHessian), 100 iterations, tolerance 1e-3", "text:Lanczos"),
            Setting("Tolerance", "0.001", "spec:curvature.tol"),
            Setting("Network", "ConvNets", "text:2-layer ConvNet"),
            Setting("Parameterizations", "μP and NTP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Widths N", "not given", _WIDTH),
            Setting("Base learning rates", "not given", "column:learning_rate"),
            Setting("Batch that is measured", "not given", "spec:curvature.images"),
            Setting("Measured after steps", "not given", "column:step"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
}
