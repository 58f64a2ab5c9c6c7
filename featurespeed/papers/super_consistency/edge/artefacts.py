"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.edge.spec import DirectionalSpec, FullBatchSpec, ResidualSpec

ARTEFACTS = (
    Artefact(
        id="sc_fig09",
        title="Full-batch gradient descent at the edge of stability",
        place="Figure 9",
        shows="full-batch gradient descent at the edge of stability",
        stage="gather",
        spec=FullBatchSpec,
        tables="tables:tabulate_fig09",
        drawing="drawing:draw_fig09",
        size=(12.6, 3.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Gradient descent on the full batch: the sharpness should settle at 2/η₀, the edge of stability. Right: "
            "its mean over the second half of training in units of 2/η₀, by width; shaded is where the claim holds. "
            "The paper's list of settings for this figure has a batch size, augmentation and warm-up, which "
            "full-batch gradient descent has no use for."
        ),
        settings=(
            Setting("Network", "residual ConvNet", "text:residual ConvNet, 3 blocks"),
            Setting("Parameterizations", "not given", "column:parameterization"),
            Setting("Data", "CIFAR-10, 500 images a class", "spec:data.name"),
            Setting("Images", "5000", "spec:data.examples"),
            Setting("Base learning rate", "0.76", "column:learning_rate"),
            Setting("Channels", "not given", WIDTH),
            Setting("Steps", "not given", "spec:steps"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    Artefact(
        id="sc_fig11",
        title="Residuals against the Gauss-Newton eigenvalue",
        place="Figure 11",
        shows="residuals against the top Gauss-Newton eigenvalue",
        stage="gather",
        spec=ResidualSpec,
        tables="tables:tabulate_fig11",
        drawing="drawing:draw_fig11",
        size=(11.0, 3.9),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "The norm of the residual (root mean square of softmax minus label) against the top eigenvalue of the "
            "Gauss-Newton part of γ²H along training, from the disc to the diamond. Under μP the eigenvalue should "
            "rise while the residual shrinks, alike at every width; under NTP wide networks fit without it. Dotted: "
            "2/η₀. Right: its mean over the second half of training over its initial value, with bootstrap intervals."
        ),
        settings=(
            Setting("Network", "ConvNet", "text:2-layer ConvNet"),
            Setting("Loss", "cross-entropy", "text:the same"),
            Setting("Parameterizations", "μP and NTP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rates", "not given", "text:the best of those measured that is common to all widths"),
            Setting("Channels", "not given", WIDTH),
            Setting("Steps", "10 epochs", "spec:steps"),
            Setting("Images measured on", "not given", "spec:curvature.images"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    Artefact(
        id="sc_fig27",
        title="Sharpness along the gradient over width and depth",
        place="Figure 27",
        shows="sharpness along the gradient over width and depth",
        stage="gather",
        spec=DirectionalSpec,
        tables="tables:tabulate_fig27",
        drawing="drawing:draw_fig27",
        size=(11.4, 3.8),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "The curvature along the gradient of the measured batch, gᵀHg/|g|² in units of γ², along training, over "
            "the width under μP and over the depth under Depth-μP, and its mean over the second half; the number is "
            "the exponent of this mean in the size. The axis is linear up to 2/η₀, dotted, and logarithmic above where "
            "the first values are much larger."
        ),
        settings=(
            Setting("Networks", "6 layers, ReLU: μP without skips, Depth-μP", "series"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Batch size, μP", "256", "spec:networks.muP, no skips.batch_size"),
            Setting("Batch size, Depth-μP", "128", "spec:networks.Depth-muP.batch_size"),
            Setting("Warm-up steps, μP", "100", "spec:networks.muP, no skips.optimizer.warmup_steps"),
            Setting("Warm-up steps, Depth-μP", "200", "spec:networks.Depth-muP.optimizer.warmup_steps"),
            Setting("Base learning rates", "not given", "column:learning_rate"),
            Setting("Channels", "not given", WIDTH),
            Setting("Steps", "20 epochs, Depth-μP 40", "spec:steps"),
            Setting("Seeds", "not given", "seeds:any"),
        ),
    ),
)
