"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.curvature_methods.spec import SharpnessMethodsSpec
from featurespeed.sweeps.spec import SweepSpec

ARTEFACTS = (
    Artefact(
        id="sc_sharpness_methods",
        title="Measuring the sharpness: error against cost",
        place="App. J.1",
        shows="how the sharpness is measured: true error of several methods against their cost",
        stage="sharpness_methods",
        spec=SharpnessMethodsSpec,
        tables="tables:tabulate_sharpness_methods",
        drawing="drawing:draw_sharpness_methods",
        size=(11.4, 7.4),
        gpu=False,
        reading=(
            "Why the sharpness is measured as it is. Left: the true error of every method against its cost in "
            "products of the Hessian with a vector; small dots are single measurements, large markers medians. "
            "Middle: the true ends of the spectrum along training, and estimates over the true value, of the paper's "
            "method and ours. Right: cost along training. Power iteration stops early, and where a negative "
            "eigenvalue dominates it returns that one, as does every method that looks for the largest magnitude. "
            "ARPACK can be asked for the largest algebraic eigenvalue and, tuned, costs as much as our cold start; "
            "what is saved is saved by starting warm. Errors below 1e-9 stand at 1e-9."
        ),
        settings=(
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
    Artefact(
        id="sc_sharpness",
        title="Curvature along training",
        place="Curvature",
        stage="gather",
        spec=SweepSpec,
        gpu=False,
        reading=(
            "The sharpness stage on small networks under μP and NTP: eigenvalues of the Hessian, of its Gauss-Newton "
            "and residual parts, of its blocks by layer and of the NTK, its trace, and its curvature along the "
            "gradient, on one fixed batch along training, in units of each layer's learning rate (γ²H). There is no "
            "figure: the claims below check the measurement against inequalities that hold for every matrix."
        ),
        settings=(
            Setting("How", "power iteration (PyHessian), 100 iterations, tolerance 1e-3", "text:Lanczos"),
            Setting("Tolerance", "0.001", "spec:curvature.tol"),
            Setting("Network", "ConvNets", "text:2-layer ConvNet"),
            Setting("Parameterizations", "μP and NTP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Base learning rates", "not given", "column:learning_rate"),
            Setting("Batch that is measured", "not given", "spec:curvature.images"),
            Setting("Measured after steps", "not given", "column:step"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
)
