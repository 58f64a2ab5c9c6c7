"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.coordinate_check.spec import CoordinateSpec, ParameterizationSpec

ARTEFACTS = (
    Artefact(
        id="sc_fig28",
        title="Coordinate check over the width",
        place="Figure 28",
        shows="coordinate check: how far features move in nets of growing width, for every parameterization",
        stage="coordinate_check",
        spec=CoordinateSpec,
        tables="tables:tabulate_fig28",
        drawing="drawing:draw_fig28",
        size=(10.6, 13.4),
        reading=(
            "How far the last hidden features have moved after a few steps from one base learning rate, against the "
            "width. Under μP and Depth-μP the lines should be flat; SP grows, NTP falls, random features stand "
            "still. Next two lines: the parts of the update at the last step, by a layer's own weights (effective) "
            "and by its moved input (propagating). Below: all slopes with intervals. Two further checks of μP: a "
            "wrong rule, the readout multiplier of NTP, which must not come out flat; and outputs that start smaller "
            "(γ₀ > 1), because at a finite width they start at a size of 1/√N, which bends the slopes. Last line: a "
            "ViT on images, a decoder (GPT) and a transformer with normalisation behind its branches (post-LN) on "
            "text, with Adam. Their features should be flat under μP and Depth-μP. Outputs of the two on text still "
            "fall with the width: the part that the moved features bring about begins with a term of 1/√N."
        ),
        settings=(
            Setting("Network", "ConvNet", "text:2-layer ConvNet; for Depth-μP a residual one; three transformers"),
            Setting("Parameterizations", "μP", "column:parameterization"),
            Setting("Optimizers", "not given", "column:optimizer"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Data of transformers", "not given", "text:ViT: images; decoders: characters of a manual"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Steps", "not given", "column:step"),
            Setting("Base learning rates", "not given", "spec:learning_rates"),
            Setting("Batch size", "not given", "spec:batch_size"),
            Setting("Seeds", "not given", "seeds:training"),
            Setting("Intervals", "not given", "text:95%, mean of logarithms over seeds; slopes: one fit a seed"),
        ),
    ),
    Artefact(
        id="sc_table1",
        title="Parameterizations: measured exponents",
        place="Table 1",
        shows="parameterizations: measured and stated exponents in width and depth, and their two published forms",
        stage="parameterizations",
        spec=ParameterizationSpec,
        tables="tables:tabulate_table1",
        drawing="drawing_table1:draw_table1",
        size=(9.0, 15.2),
        reading=(
            "Exponents in the width N, layer by layer: activations at initialisation, effective and propagating "
            "updates of the first step, measured (dots, 95% intervals) beside those that the table's rules imply "
            "(diamonds). Bottom, left: exponents in the depth L under Depth-μP and, as a control, under μP without "
            "1/√L. Bottom, right: how far the training curves of the two published forms are apart, where they are "
            "one network and where they are not. AdamW has no weight decay in the exponents, so its first step is "
            "Adam's. Last two lines: transformers with Adam, effective updates by the kind of their weights, and "
            "the features. Behind the branches of the post-LN transformer stand gains and biases that no rule divides "
            "by the depth: there the features of deeper networks move by more."
        ),
        settings=(
            Setting(
                "How",
                "stated; the table was rebuilt from the text and from μP theory",
                "text:measured by regression",
            ),
            Setting(
                "Network",
                "Eq. 1, plain and residual",
                "text:MLP; residual for Depth-μP and over the depth; three transformers",
            ),
            Setting("Parameterizations", "NTP, μP, Depth-μP, and SP for comparison", "column:parameterization"),
            Setting("Optimizers", "SGD and Adam", "column:optimizer"),
            Setting("Data", "none measured", "spec:data.name"),
            Setting("Widths N", "none measured", "spec:widths"),
            Setting("Depths L", "none measured", "spec:over_depth.depths"),
            Setting("Steps for the two forms", "none measured", "spec:forms.steps"),
            Setting("Seeds", "none", "seeds:training"),
        ),
    ),
)
