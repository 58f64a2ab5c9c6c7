"""Facts about the artefacts of arXiv:2402.17457 on spectra and on the edge of stability."""

from __future__ import annotations

from featurespeed.papers.entries import WIDTH, ArtefactFacts, Setting

FACTS: dict[str, ArtefactFacts] = {
    "sc_fig02": ArtefactFacts(
        "Figure 2",
        "Eigenvalues of γ²H and the top eigenvalue of the NTK along training under μP, one line a width. The "
        "largest one should follow the same curve at every width, those further down the spectrum less so. Lower "
        "line: the coefficient of variation over widths of each eigenvalue; early training is shaded. Lines are "
        "means over seeds, bands their range; hollow points say that a seed has diverged, died, or that a value did "
        "not converge.",
        (
            Setting("Network", "3-layer ConvNet, τ = 0 (the text says residual)", "text:3-layer ConvNet, τ = 0"),
            Setting("Parameterization", "μP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rate", "0.7", "column:learning_rate"),
            Setting("Batch size", "not given", "spec:networks.tau = 0.batch_size"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Steps", "10 epochs", "spec:steps"),
            Setting("Images measured on", "one fixed batch, size not given", "spec:curvature.images"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    "sc_fig03": ArtefactFacts(
        "Figure 3",
        "How far networks are from the widest one, which stands for infinite width, along the same runs. Upper "
        "line: the curves. Lower line: distances to the widest network, taken seed by seed because the seeds share "
        "their batches, medians over seeds (dots), with powers of time fitted after the first tenth of the steps "
        "(dashed); printed is the median exponent b over widths. Right: b by width, and distances averaged over "
        "training against the width, fitted at widths of at most a quarter of the widest.",
        (
            Setting("Network", "as Figure 2", "text:as Figure 2"),
            Setting("Infinite width", "N = 4096 in its place", "text:the widest network in its place"),
            Setting("Widths N", "up to 4096", WIDTH),
            Setting("Steps", "10 epochs", "spec:steps"),
            Setting("Exponents", "loss above 0.6, NTK about 2", "text:printed in the panels"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    "sc_fig09": ArtefactFacts(
        "Figure 9",
        "Gradient descent on the full batch: the sharpness should settle at 2/η₀, the edge of stability. Right: its "
        "mean over the second half of training in units of 2/η₀, by width; shaded is where the claim holds. The "
        "paper's list of settings for this figure has a batch size, augmentation and warm-up, which full-batch "
        "gradient descent has no use for.",
        (
            Setting("Network", "residual ConvNet", "text:residual ConvNet, 3 blocks"),
            Setting("Parameterization", "not given", "column:parameterization"),
            Setting("Data", "CIFAR-10, 500 images a class", "spec:data.name"),
            Setting("Images", "5000", "spec:data.examples"),
            Setting("Base learning rate", "0.76", "column:learning_rate"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Steps", "not given", "spec:steps"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    "sc_fig11": ArtefactFacts(
        "Figure 11",
        "The norm of the residual (root mean square of softmax minus label) against the top eigenvalue of the "
        "Gauss-Newton part of γ²H along training, from the disc to the diamond. Under μP the eigenvalue should rise "
        "while the residual shrinks, alike at every width; under NTP wide networks fit without it. Dotted: 2/η₀. "
        "Right: its mean over the second half of training over its initial value, with bootstrap intervals.",
        (
            Setting("Network", "ConvNet", "text:2-layer ConvNet"),
            Setting("Loss", "cross-entropy", "text:the same"),
            Setting("Parameterizations", "μP and NTP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rates", "not given", "text:the best of those measured that is common to all widths"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Steps", "10 epochs", "spec:steps"),
            Setting("Images measured on", "not given", "spec:curvature.images"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    "sc_fig23": ArtefactFacts(
        "Figure 23",
        "Top NTK eigenvalue, sharpness, loss and trace of γ²H against the width at several steps, without skip "
        "connections (the runs of Figure 2) and with them. The sharpness should be the same at every width; dotted "
        "is 2/η₀. The trace should vary over widths at first and less at the end. The loss is the mean over the "
        "steps since the last record; lines are means over seeds, bands their range.",
        (
            Setting("Networks", "residual ConvNet", "series"),
            Setting("Parameterizations", "μP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rates", "two, not given", "column:learning_rate"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Steps", "not given", "spec:steps"),
            Setting("Vectors for the trace", "not given", "spec:curvature.trace_vectors"),
            Setting("Images measured on", "not given", "spec:curvature.images"),
            Setting("Seeds", "not given", "seeds:Lanczos"),
        ),
    ),
    "sc_fig27": ArtefactFacts(
        "Figure 27",
        "The curvature along the gradient of the measured batch, gᵀHg/|g|² in units of γ², along training, and its "
        "mean over the second half by width. The axis is linear up to 2/η₀, dotted, and logarithmic above where the "
        "first values are much larger.",
        (
            Setting("Networks", "6 layers, ReLU: μP without skips, Depth-μP", "series"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Batch size, μP", "256", "spec:networks.muP, no skips.batch_size"),
            Setting("Batch size, Depth-μP", "128", "spec:networks.Depth-muP.batch_size"),
            Setting("Warm-up steps, μP", "100", "spec:networks.muP, no skips.optimizer.warmup_steps"),
            Setting("Warm-up steps, Depth-μP", "200", "spec:networks.Depth-muP.optimizer.warmup_steps"),
            Setting("Base learning rates", "not given", "column:learning_rate"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Steps", "20 epochs, Depth-μP 40", "spec:steps"),
            Setting("Seeds", "not given", "seeds:any"),
        ),
    ),
}
