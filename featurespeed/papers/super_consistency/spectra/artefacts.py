"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.spectra.spec import SpectrumSpec, WidthSpec

ARTEFACTS = (
    Artefact(
        id="sc_fig02",
        title="Eigenvalues of the Hessian and of the NTK over the width",
        place="Figure 2",
        shows="eigenvalues of the Hessian and of the NTK along training",
        stage="gather",
        spec=SpectrumSpec,
        tables="tables:tabulate_fig02",
        drawing="drawing:draw_fig02",
        points="../published.csv",
        size=(11.4, 6.0),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Eigenvalues of γ²H and the top eigenvalue of the NTK along training under μP, one line a width. The "
            "largest one should follow the same curve at every width, those further down the spectrum less so. Lower "
            "line: the coefficient of variation over widths of each eigenvalue; early training is shaded. Lines are "
            "means over seeds, bands their range; hollow points say that a seed has diverged, died, or that a value "
            "did not converge. Where the run has the authors' settings, hollow diamonds are read off their own plots; "
            "the table has those of other eigenvalues as well."
        ),
        settings=(
            Setting("Network", "3-layer ConvNet, τ = 0 (the text says residual)", "text:3-layer ConvNet, τ = 0"),
            Setting("Parameterization", "μP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rate", "0.7", "column:learning_rate"),
            Setting("Batch size", "not given; 256 in the authors' code", "spec:networks.tau = 0.batch_size"),
            Setting("Channels", "not given; 8 to 512 in the authors' code", WIDTH),
            Setting("Steps", "10 epochs", "spec:steps"),
            Setting("Images measured on", "one fixed batch; 1024 in the authors' code", "spec:curvature.images"),
            Setting("Seeds", "not given; 5 in the authors' code", "seeds:Lanczos"),
        ),
    ),
    Artefact(
        id="sc_fig03",
        title="Distance from infinite width along training",
        place="Figure 3",
        shows="distance to the infinite-width proxy: powers of time",
        stage="gather",
        spec=WidthSpec,
        tables="tables:tabulate_fig03",
        drawing="drawing:draw_fig03",
        points="../published.csv",
        size=(12.0, 6.0),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "How far networks are from the widest one, which stands for infinite width, along the same runs. Upper "
            "line: the curves. Lower line: distances of the means over seeds to the widest network (dots; bars: "
            "standard error). Seeds share their batches, so differences are taken seed by seed, and the seed noise is "
            "subtracted from their square; below the noise floor (grey, dashed) there is no distance. Powers of time "
            "(dashed) are fitted above it after the first tenth of the steps; printed is the mean exponent b over "
            "widths, with the jackknife over five seeds or more. Right: b by width, and distances over training "
            "against the width, fitted at widths of at most a quarter of the widest. Where the run has the authors' "
            "settings, hollow diamonds are read off their own plots; distances only where the widest network is theirs."
        ),
        settings=(
            Setting("Network", "as Figure 2", "text:as Figure 2"),
            Setting(
                "Infinite width",
                "N = 4096 in its place; 2048 in the authors' code",
                "text:the widest network in its place",
            ),
            Setting("Widths N", "up to 4096; 32 to 2048 in the authors' code", WIDTH),
            Setting("Steps", "10 epochs", "spec:steps"),
            Setting("Exponents", "loss above 0.6, NTK about 2", "text:printed in the panels"),
            Setting("Seeds", "not given; 5 in the authors' code", "seeds:Lanczos"),
        ),
    ),
    Artefact(
        id="sc_fig23",
        title="NTK, sharpness, loss and Hessian trace over the width",
        place="Figure 23",
        shows="NTK, sharpness, loss and Hessian trace against the width",
        stage="gather",
        spec=WidthSpec,
        tables="tables:tabulate_fig23",
        drawing="drawing:draw_fig23",
        points="../published.csv",
        size=(11.6, 5.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Top NTK eigenvalue, sharpness, loss and trace of γ²H against the width at several steps, without skip "
            "connections (the runs of Figure 2) and with them. The sharpness should be the same at every width; "
            "dotted is 2/η₀. The trace should vary over widths at first and less at the end. The loss is the mean "
            "over the steps since the last record; lines are means over seeds, bands their range. Where the run has "
            "the authors' settings, hollow diamonds are read off their own plots, near the steps that are shown; the "
            "table has the others as well."
        ),
        settings=(
            Setting("Networks", "residual ConvNet; without skips in the authors' code", "series"),
            Setting("Parameterizations", "μP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Base learning rates", "two, not given; 0.7 in the authors' code", "column:learning_rate"),
            Setting("Channels", "not given; 8 to 512 in the authors' code", WIDTH),
            Setting("Steps", "not given; 10 epochs in the authors' code", "spec:steps"),
            Setting(
                "Vectors for the trace", "not given; at most 100 in the authors' code", "spec:curvature.trace_vectors"
            ),
            Setting("Images measured on", "not given; 1024 in the authors' code", "spec:curvature.images"),
            Setting("Seeds", "not given; 5 in the authors' code", "seeds:Lanczos"),
        ),
    ),
)
