"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.edge_of_stability.coefficients.spec import TaylorSpec
from featurespeed.papers.edge_of_stability.facts import NOT_KNOWN, OURS, QUADRATIC, SCALING
from featurespeed.papers.entries import Artefact, Setting

ARTEFACTS = (
    Artefact(
        id="beos_fig6",
        title="Taylor coefficients of the loss",
        place=f"Taylor coefficients ({OURS})",
        shows="Taylor coefficients of the loss: against automatic differentiation, and how far they predict",
        stage="taylor_coefficients",
        spec=TaylorSpec,
        tables="tables:tabulate_taylor",
        drawing="drawing:draw_taylor",
        size=(12.4, 8.4),
        gpu=False,
        reading=(
            "The abstract announces formulas for the first three Taylor coefficients of the minibatch loss; those "
            "used here are ours. Left: errors of c₀ to c₃ and of the identities between them on random networks in "
            "float64, one dot a gradient scaling (median; the line ends at the largest error), black the threshold; "
            "the coefficients of another network of the same architecture are far above it. Right: error of the "
            "predicted change of the loss, over its first-order part, against the step. Up to about 10⁻⁴ of the edge "
            "no unit crosses the kink of its activation, and order p is off by a power p of the step (dashed: the "
            "same at all steps, if slopes are held); beyond, orders 2 and 3 are as good as the kinks allow. Bottom: "
            "the change of the loss along the scaled gradient at probe steps of training. At the edge, 1, the "
            "quadratic model is back at the loss of before; where the measured loss is back stands in the panel."
        ),
        settings=(
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
)
