"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.edge_of_stability.descent.spec import AwareSpec, ConstantSpec, CurvesSpec, MapSpec
from featurespeed.papers.edge_of_stability.facts import NOT_KNOWN, OURS, QUADRATIC, SCALING
from featurespeed.papers.entries import Artefact, Setting

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

ARTEFACTS = (
    Artefact(
        id="beos_fig1",
        title="Stability over learning rate, gradient scaling and width pattern",
        place=f"Stability map ({OURS})",
        shows="stability map over learning rate, gradient scaling and width pattern",
        showcase_scale="gpu",
        showcase=(
            "After the abstract of the third paper: which networks train beyond the edge of stability, by learning "
            "rate (columns, in units of the edge at initialisation), scaling of the gradient (lines) and width "
            "pattern r, on MNIST with five seeds. Blue: trained to the end, the darker, the more steps beyond the "
            "edge. Scalings and experiment are our reconstruction."
        ),
        stage="gather_descent",
        spec=MapSpec,
        tables="tables:tabulate_fig1",
        drawing="drawing_map:draw_fig1",
        size=(13.0, 5.6),
        gpu=False,
        reading=(
            "What becomes of networks beyond the edge of stability. A map is a width pattern r, or the "
            "geometry-aware schedule; a line is a gradient scaling, a column κ, the learning rate over the edge of "
            "stability at initialisation, 2/λ_Ξ(0). A cell is divided between the seeds that trained to the end "
            "(blue, the darker the more of their steps were beyond the edge of the minibatch's own quadratic model), "
            "those that were not finite (orange) and those that died (grey). In it: seeds that trained of all, share "
            "of steps beyond, and the largest loss over the initial one. The abstract says that a scaling and a "
            "quadratic pattern together train beyond the edge without explosions; which scaling, and how far, it "
            "does not say. κ is in units of each network and scaling: equal κ are not equal learning rates."
        ),
        settings=(
            *_NETWORKS,
            *_TRAINING,
            *_SCHEDULE,
            *_MORE_SEEDS,
        ),
    ),
    Artefact(
        id="beos_fig2",
        title="Loss, sharpness and soft rank along training",
        place=f"Along training ({OURS})",
        shows="loss, sharpness and soft rank along training, below and beyond the edge",
        stage="gather_descent",
        spec=CurvesSpec,
        tables="tables:tabulate_fig2",
        drawing="drawing_curves:draw_fig2",
        size=(13.0, 9.0),
        gpu=False,
        reading=(
            "Loss, sharpness and soft rank along training, below the edge (κ = 0.5) and beyond it. A column is a "
            "network and a gradient scaling, a colour a κ. From above: training loss; sharpness λ_max(H); the same "
            "in units of the scaled step, over its edge (1); the curvature ratio −ηc₂/c₁, above 1 where the "
            "minibatch's quadratic model says that the loss grows; participation ratio of the last hidden features. "
            "Lines and bands are medians and ranges over the seeds that are left, a cross is where one fails. If "
            "training beyond the edge regularises the sharpness and gives better features, larger κ end with a "
            "smaller sharpness and a higher rank."
        ),
        settings=(
            *_NETWORKS,
            *_TRAINING,
            _SHOWN,
            *_PROBES,
            *_SEEDS,
        ),
    ),
    Artefact(
        id="beos_fig3",
        title="Soft rank and final sharpness over the learning rate",
        place=f"Soft rank and sharpness ({OURS})",
        shows="soft ranks and final sharpness against the learning rate",
        stage="gather_descent",
        spec=ConstantSpec,
        tables="tables:tabulate_fig3",
        drawing="drawing:draw_fig3",
        size=(13.4, 6.2),
        gpu=False,
        reading=(
            "Soft ranks of the last hidden features and the sharpness at the end of training, against κ. Above: all "
            "gradient scalings with a quadratic width pattern; below: rel1 with all patterns. Left: which seeds "
            "trained to the end; only they have values on the right, so a point is hollow where some failed. Bands "
            "are ranges over seeds; printed is the ratio at κ = 32 and 0.5, a geometric mean over seeds, with its "
            "interval. The abstract has better features, measured by a soft rank, and implicit regularisation of the "
            "sharpness; here that is a rank that rises and a sharpness that falls with κ. Three ranks are shown "
            "because which one is meant is not known."
        ),
        settings=(
            *_NETWORKS,
            *_TRAINING,
            *_PROBES,
            *_MORE_SEEDS,
            Setting("Intervals", NOT_KNOWN, "text:bands: range over seeds; ratios: 95%, t interval over seeds, paired"),
        ),
    ),
    Artefact(
        id="beos_fig4",
        title="Cosine of new and cumulative updates",
        place=f"Directions of updates ({OURS} of the first version)",
        shows="cosine of new and cumulative updates",
        stage="gather_descent",
        spec=CurvesSpec,
        tables="tables:tabulate_fig4",
        drawing="drawing_cosines:draw_fig4",
        size=(13.0, 8.0),
        gpu=False,
        reading=(
            "Does training go on in the direction in which it has gone? Cosine of each update with the sum of all "
            "before it, all layers together, along training, and its mean over training against κ. The abstract of "
            "the paper's first version explains the learning of features by such a cosine, as a hypothesis; how, it "
            "does not say. Below the edge updates should add up, far beyond it they should have almost nothing in "
            "common. Dotted: the thresholds of our claims. A network that fails counts with the steps that it took, "
            "and its point is hollow. The axis is linear up to the lower threshold and logarithmic above."
        ),
        settings=(
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
    Artefact(
        id="beos_fig5",
        title="Geometry-aware learning rates",
        place=f"Geometry-aware schedule ({OURS} of the first version)",
        shows="a geometry-aware schedule of the learning rate",
        stage="gather_descent",
        spec=AwareSpec,
        tables="tables:tabulate_fig5",
        drawing="drawing_curves:draw_fig5",
        size=(13.0, 5.6),
        gpu=False,
        reading=(
            "Steps that follow the curvature: at every step the learning rate is κ_g times the edge −c₁/c₂ of the "
            "minibatch's own quadratic model, and no more than κ_g times a largest rate. κ_g = 1 is the edge itself, "
            "above it every step is beyond unless the largest rate holds it back. Above: this schedule, without a "
            "scaling of layers; below: a constant learning rate on the same network. Loss, step size, curvature "
            "ratio (1 is the edge) and participation ratio along training; at the right seeds that trained, share of "
            "steps beyond, and the ratio of the ranks at κ_g = 1.5 and 0.5 with its interval. The abstract of the "
            "first version names such a schedule; this one is our reconstruction."
        ),
        settings=(
            *_NETWORKS,
            *_TRAINING,
            *_SCHEDULE,
            _SHOWN,
            Setting("Measured after steps", NOT_KNOWN, "spec:probe_steps"),
            Setting("Images of the ranks", NOT_KNOWN, "spec:rank_images"),
            *_SEEDS,
        ),
    ),
    Artefact(
        id="beos_table1",
        title="All runs of scaled descent",
        place=f"All runs ({OURS})",
        shows="all of these runs, with intervals",
        stage="gather_descent",
        spec=MapSpec,
        tables="tables:tabulate_table1",
        drawing="drawing_table1:draw_table1",
        size=(16.0, 10.0),
        gpu=False,
        reading=(
            "All runs of scaled descent, a line a network, gradient scaling, schedule and κ: seeds that trained to "
            "the end of all, with the 95% Clopper-Pearson interval of their share; dead networks; the largest loss "
            "over the initial one; the share of steps beyond the edge; and at the end of training test accuracy, "
            "sharpness and soft ranks, with 95% bootstrap intervals over the seeds that trained; mean cosine of new "
            "and cumulative updates. Shaded is the share of seeds that were not finite (orange) or died (grey). The "
            "accuracy is there to show what the other columns do not: networks may survive far beyond the edge and "
            "know nothing. Networks that failed have no values at the end, so what stands beside a failure is about "
            "the others."
        ),
        settings=(
            *_NETWORKS,
            *_TRAINING,
            *_SCHEDULE,
            *_PROBES,
            *_MORE_SEEDS,
            Setting("Intervals", NOT_KNOWN, "text:95%, bootstrap over seeds; shares: Clopper-Pearson"),
        ),
    ),
)
