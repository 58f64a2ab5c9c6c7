"""Facts about the artefacts of arXiv:2311.18718."""

from __future__ import annotations

from featurespeed.papers.entries import WIDTH, ArtefactFacts, Setting

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

FACTS: dict[str, ArtefactFacts] = {
    "fsf_fig1a": ArtefactFacts(
        "Figure 1a",
        "The angle between a layer's velocity and the backward direction, layer by layer, at initialisation. It "
        "keeps growing in the MLP, settles at a finite value for β of order 1/√L, and vanishes for β = 1/L. "
        + _DOTS
        + _LINES,
        (
            _NETWORK,
            Setting("Depth L", "200", "column:depth"),
            Setting("Width m", "200", WIDTH),
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
            Setting("Width m", "200", WIDTH),
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
            Setting("Width m", "500 in the authors' code (the caption says 200)", WIDTH),
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
            Setting("Width m", "400", WIDTH),
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
            Setting("Width m", "400", WIDTH),
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
            Setting("Widths m", "none measured", WIDTH),
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
            Setting("Widths m", "none measured", WIDTH),
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
            Setting("Widths m", "no measurement", WIDTH),
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
            Setting("Widths m", "any", WIDTH),
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
            Setting("Widths", "200 to 500", WIDTH),
            Setting("Base learning rates", "none: no training", "column:learning_rate"),
            Setting("Measured after steps", "0", "column:step"),
            Setting("Seeds", "1 to 5", "seeds:jvp"),
        ),
    ),
}
