"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.conventions.spec import ConventionsSpec

ARTEFACTS = (
    Artefact(
        id="sc_conventions",
        title="What the authors' networks do differently from the text, one choice at a time",
        place="Conventions (ours)",
        shows="what each choice that the text leaves open does to the best learning rate and to where training starts",
        stage="gather",
        spec=ConventionsSpec,
        tables="tables:tabulate",
        drawing="drawing:draw",
        size=(11.4, 4.9),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "The text does not say how its ConvNets are built; we read it in one way, the authors' code does it in "
            "another. Each row changes one choice of the authors' network, the last one of a family all of them; the "
            "vertical line is the authors' network, numbers at the right are factors on it. Left: sharpness at step 0 "
            "at the best learning rate, in units of 2/η₀: from 1 on training starts beyond the edge of stability. "
            "Middle: the best learning rate of the narrowest and of the widest network. Right: its shift over a factor "
            "16 in the width, in steps of 2; shaded is what counts as transfer. A choice that makes the outputs of the "
            "same weights c times larger lets n layers train as if each were c^(1/n) larger, and lowers the best rate "
            "by c^(2/n) or more: without the nine c is 3 to the number of hidden convolutions. A network that ends at "
            "a single pixel, as a SimpleConvNet with the authors' strides does, has one and the same γ whether it "
            "counts channels or inputs of the readout, so that this choice has no row there."
        ),
        settings=(
            Setting("Networks", "ConvNets of 2 and 3 layers; how they are built is not given", "series"),
            Setting("Parameterization", "μP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rates", "not given", "column:learning_rate"),
            Setting("Batch size", "128 to 512", "spec:networks.SimpleConvNet.batch_size"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Training steps", "10 to 50 epochs", "spec:steps"),
            Setting("Images the sharpness is measured on", "one fixed batch", "spec:curvature.images"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
)
