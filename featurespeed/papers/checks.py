"""Facts about the checks of arXiv:2402.17457: coordinates, parameterizations, how curvature is measured."""

from __future__ import annotations

from featurespeed.papers.entries import WIDTH, ArtefactFacts, Setting

FACTS: dict[str, ArtefactFacts] = {
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
            Setting("Widths N", "not given", WIDTH),
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
            Setting("Widths N", "not given", WIDTH),
            Setting("Base learning rates", "not given", "column:learning_rate"),
            Setting("Batch that is measured", "not given", "spec:curvature.images"),
            Setting("Measured after steps", "not given", "column:step"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
}
