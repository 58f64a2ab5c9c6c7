"""Facts about the artefacts of arXiv:2502.13110, of which only the abstracts of its two versions are known to us.

What an abstract says stands behind ``abstract only``; all else about the paper is not known here, and nothing in the
reading texts is the author's but what they say is.
"""

from __future__ import annotations

from featurespeed.papers.entries import ArtefactFacts, Setting

OURS = "ours, after the abstract"
NOT_KNOWN = "not known"
QUADRATIC = "abstract only: polynomial; beyond the edge quadratic"
SCALING = "abstract only: a depth-wise scaling; formula not known"

_NETWORKS = (
    Setting("Network", "abstract only: a homogeneous MLP", "text:MLP without biases, ReLU"),
    Setting("Width patterns r", QUADRATIC, "series"),
    Setting("First hidden width m₁", NOT_KNOWN, "column:width"),
    Setting("Number of weights at r = 2", NOT_KNOWN, "spec:networks.r = 2.parameters"),
    Setting("Weight layers l", NOT_KNOWN, "spec:layers"),
    Setting("Initialisation", "abstract only: edge of chaos (first version)", "text:N(0, 1/((a² + b²) fan-in))"),
)
_TRAINING = (
    Setting("Data", NOT_KNOWN, "spec:data.name"),
    Setting("Pixels", NOT_KNOWN, "spec:data.pixels"),
    Setting("Loss", NOT_KNOWN, "spec:loss"),
    Setting("Gradient scalings", SCALING, "column:scaling"),
    Setting("Minibatch n", "abstract only: minibatches, size not known", "spec:batch_size"),
    Setting("Training steps", NOT_KNOWN, "spec:steps"),
    Setting("κ: learning rate over 2/λ_Ξ(0)", NOT_KNOWN, "spec:kappas"),
)
_SEEDS = (Setting("Seeds", NOT_KNOWN, "spec:seeds"),)
_MORE_SEEDS = (
    Setting("Seeds", NOT_KNOWN, "spec:seeds"),
    Setting("Seeds of norm2", NOT_KNOWN, "spec:scalings.norm2.seeds"),
    Setting("Seeds of rel2", NOT_KNOWN, "spec:scalings.rel2.seeds"),
    Setting("Seeds of gradn", NOT_KNOWN, "spec:scalings.gradn.seeds"),
    Setting("Seeds of fsf", NOT_KNOWN, "spec:scalings.fsf.seeds"),
)
_PROBES = (
    Setting("Measured after steps", NOT_KNOWN, "spec:probe_steps"),
    Setting("Images of the curvature", NOT_KNOWN, "spec:curvature_images"),
    Setting("Soft rank", "abstract only: a variant of the soft rank", "text:participation ratio, stable, entropy rank"),
    Setting("Images of the ranks", NOT_KNOWN, "spec:rank_images"),
)
_SCHEDULE = (
    Setting("Schedule", "abstract only: geometry-aware (first version)", "text:η_t = κ_g min(−c₁/c₂, largest rate)"),
    Setting("κ_g", NOT_KNOWN, "spec:geometry_aware.kappas"),
    Setting("Largest rate", NOT_KNOWN, "spec:geometry_aware.largest_rate"),
    Setting("Gradient scaling under it", NOT_KNOWN, "spec:geometry_aware.scaling"),
)
_SHOWN = Setting("κ along training", NOT_KNOWN, "spec:shown")

FACTS: dict[str, ArtefactFacts] = {
    "beos_fig1": ArtefactFacts(
        f"Stability map ({OURS})",
        "What becomes of networks beyond the edge of stability. A map is a width pattern r, or the geometry-aware "
        "schedule; a line is a gradient scaling, a column κ, the learning rate over the edge of stability at "
        "initialisation, 2/λ_Ξ(0). A cell is divided between the seeds that trained to the end (blue, the darker the "
        "more of their steps were beyond the edge of the minibatch's own quadratic model), those that were not finite "
        "(orange) and those that died (grey). In it: seeds that trained of all, share of steps beyond, and the largest "
        "loss over the initial one. The abstract says that a scaling and a quadratic pattern together train beyond the "
        "edge without explosions; which scaling, and how far, it does not say. κ is in units of each network and "
        "scaling: equal κ are not equal learning rates.",
        (
            *_NETWORKS,
            *_TRAINING,
            *_SCHEDULE,
            *_MORE_SEEDS,
        ),
    ),
    "beos_fig2": ArtefactFacts(
        f"Along training ({OURS})",
        "Loss, sharpness and soft rank along training, below the edge (κ = 0.5) and beyond it. A column is a network "
        "and a gradient scaling, a colour a κ. From above: training loss; sharpness λ_max(H); the same in units of the "
        "scaled step, over its edge (1); the curvature ratio −ηc₂/c₁, above 1 where the minibatch's quadratic model "
        "says that the loss grows; participation ratio of the last hidden features. Lines and bands are medians and "
        "ranges over the seeds that are left, a cross is where one fails. If training beyond the edge regularises the "
        "sharpness and gives better features, larger κ end with a smaller sharpness and a higher rank.",
        (
            *_NETWORKS,
            *_TRAINING,
            _SHOWN,
            *_PROBES,
            *_SEEDS,
        ),
    ),
    "beos_fig3": ArtefactFacts(
        f"Soft rank and sharpness ({OURS})",
        "Soft ranks of the last hidden features and the sharpness at the end of training, against κ. Above: all "
        "gradient scalings with a quadratic width pattern; below: rel1 with all patterns. Left: which seeds trained to "
        "the end; only they have values on the right, so a point is hollow where some failed. Bands are ranges over "
        "seeds; printed is the ratio of the means at κ = 32 and 0.5 with its interval. The abstract has better "
        "features, measured by a soft rank, and implicit regularisation of the sharpness; here that is a rank that "
        "rises and a sharpness that falls with κ. Three ranks are shown because which one is meant is not known.",
        (
            *_NETWORKS,
            *_TRAINING,
            *_PROBES,
            *_MORE_SEEDS,
            Setting("Intervals", NOT_KNOWN, "text:bands: range over seeds; ratios: 95%, bootstrap over seeds"),
        ),
    ),
    "beos_fig4": ArtefactFacts(
        f"Directions of updates ({OURS} of the first version)",
        "Does training go on in the direction in which it has gone? Cosine of each update with the sum of all before "
        "it, all layers together, along training, and its mean over training against κ. The abstract of the paper's "
        "first version explains the learning of features by such a cosine, as a hypothesis; how, it does not say. "
        "Below the edge updates should add up, far beyond it they should have almost nothing in common. Dotted: the "
        "thresholds of our claims. A network that fails counts with the steps that it took, and its point is hollow. "
        "The axis is linear up to the lower threshold and logarithmic above.",
        (
            *_NETWORKS,
            *_TRAINING,
            _SHOWN,
            Setting(
                "Cosine", "abstract only: of new and cumulative updates (first version)", "text:W_t − W_0, all layers"
            ),
            Setting("Mean over steps", NOT_KNOWN, "spec:record_every"),
            *_SEEDS,
        ),
    ),
    "beos_fig5": ArtefactFacts(
        f"Geometry-aware schedule ({OURS} of the first version)",
        "Steps that follow the curvature: at every step the learning rate is κ_g times the edge −c₁/c₂ of the "
        "minibatch's own quadratic model, and no more than κ_g times a largest rate. κ_g = 1 is the edge itself, above "
        "it every step is beyond unless the largest rate holds it back. Above: this schedule, without a scaling of "
        "layers; below: a constant learning rate on the same network. Loss, step size, curvature ratio (1 is the edge) "
        "and participation ratio along training; at the right seeds that trained, share of steps beyond, and the ratio "
        "of the ranks at κ_g = 1.5 and 0.5 with its interval. The abstract of the first version names such a schedule; "
        "this one is our reconstruction.",
        (
            *_NETWORKS,
            *_TRAINING,
            *_SCHEDULE,
            _SHOWN,
            Setting("Measured after steps", NOT_KNOWN, "spec:probe_steps"),
            Setting("Images of the ranks", NOT_KNOWN, "spec:rank_images"),
            *_SEEDS,
        ),
    ),
    "beos_fig6": ArtefactFacts(
        f"Taylor coefficients ({OURS})",
        "The abstract announces formulas for the first three Taylor coefficients of the minibatch loss; those used "
        "here are ours. Left: errors of c₀ to c₃ and of the identities between them on random networks in float64, one "
        "dot a gradient scaling (median; the line ends at the largest error), black the threshold; formulas that are "
        "wrong on purpose are far above it. Right: error of the predicted change of the loss, over its first-order "
        "part, against the step. Up to about 10⁻⁴ of the edge no unit crosses the kink of its activation, and order p "
        "is off by a power p of the step (dashed: the same at all steps, if slopes are held); beyond, orders 2 and 3 "
        "are as good as the kinks allow. Bottom: the change of the loss along the scaled gradient at probe steps of "
        "training. At the edge, 1, the quadratic model is back at the loss of before; where the measured loss is back "
        "stands in the panel.",
        (
            Setting("Formulas", "abstract only: announced", "text:Gram-matrix recursion, ours"),
            Setting("Random architectures", NOT_KNOWN, "spec:cases.architectures"),
            Setting("Networks of each architecture", NOT_KNOWN, "spec:cases.networks"),
            Setting("Scalings compared", SCALING, "column:scaling"),
            Setting("Data of the training runs", NOT_KNOWN, "spec:data.name"),
            Setting("Width pattern r", QUADRATIC, "spec:network.pattern"),
            Setting("Number of weights", NOT_KNOWN, "spec:network.parameters"),
            Setting("Gradient scaling of the runs", SCALING, "spec:scaling"),
            Setting("κ", NOT_KNOWN, "spec:kappa"),
            Setting("Minibatch", "abstract only: minibatches, size not known", "spec:batch_size"),
            Setting("Measured after steps", NOT_KNOWN, "spec:probe_steps"),
            Setting("Seeds", NOT_KNOWN, "spec:seeds"),
        ),
    ),
    "beos_table1": ArtefactFacts(
        f"All runs ({OURS})",
        "All runs of scaled descent, a line a network, gradient scaling, schedule and κ: seeds that trained to the end "
        "of all, with the 95% Clopper-Pearson interval of their share; dead networks; the largest loss over the "
        "initial one; the share of steps beyond the edge; and at the end of training test accuracy, sharpness and soft "
        "ranks, with 95% bootstrap intervals over the seeds that trained; mean cosine of new and cumulative updates. "
        "Shaded is the share of seeds that were not finite (orange) or died (grey). The accuracy is there to show what "
        "the other columns do not: networks may survive far beyond the edge and know nothing. Networks that failed "
        "have no values at the end, so what stands beside a failure is about the others.",
        (
            *_NETWORKS,
            *_TRAINING,
            *_SCHEDULE,
            *_PROBES,
            *_MORE_SEEDS,
            Setting("Intervals", NOT_KNOWN, "text:95%, bootstrap over seeds; shares: Clopper-Pearson"),
        ),
    ),
    "beos_bridge": ArtefactFacts(
        "The second paper's ConvNets beyond their edge (ours)",
        "Do scaled gradients take the ConvNets of the second paper past their edge of stability, and does a quadratic "
        "width pattern help? The learning rate is κ times the edge at initialisation (dotted), in units of each "
        "scaling and network. Above: the share of seeds that train (finite, no dead layer, a loss below chance at the "
        "end), and what those that got to the end look like; hollow where some seeds did not. Left of each pair equal "
        "numbers of channels, right a quadratic pattern with as many weights. Below, left: the largest κ up to which "
        "all seeds train, with the share of steps beyond the edge of the minibatch's own quadratic model. Below, "
        "right: what a scaling gains over none, and r = 2 over r = 0, in steps of 2; in the shaded region the claims "
        "hold. An open end or a hollow symbol says that the grid of κ ends too early. Scalings and networks are ours: "
        "the abstract speaks of MLPs.",
        (
            Setting(
                "Networks", "abstract only: MLPs", "text:plain μP ConvNets, 3x3, ReLU, flat readout (second paper)"
            ),
            Setting("Gradient scalings", SCALING, "column:scaling"),
            Setting("Width pattern", QUADRATIC, "series"),
            Setting("Number of weights", NOT_KNOWN, "spec:networks.r = 0.parameters"),
            Setting("Weight layers l", NOT_KNOWN, "spec:layers"),
            Setting("Data", NOT_KNOWN, "spec:data.name"),
            Setting("Minibatch", "abstract only: minibatches, size not known", "spec:batch_size"),
            Setting("Training steps", NOT_KNOWN, "spec:steps"),
            Setting("κ", NOT_KNOWN, "spec:kappas"),
            Setting("Images of the curvature", NOT_KNOWN, "spec:curvature_images"),
            Setting("Seeds", NOT_KNOWN, "spec:seeds"),
            Setting("Bars", NOT_KNOWN, "text:95%, bootstrap over seeds; up to 3 of them the range over all resamples"),
        ),
    ),
}
