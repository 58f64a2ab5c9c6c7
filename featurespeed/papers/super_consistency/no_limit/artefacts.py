"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.no_limit.spec import NoScalingSpec, NoSkipsSpec, StandardSpec
from featurespeed.papers.super_consistency.readings import ALONG_TRAINING

_DATA = (
    Setting("Data", "CIFAR-10", "spec:data.name"),
    Setting("Optimizer", "SGD, cross-entropy", "column:optimizer"),
)
_MEASURED = (
    Setting("Images measured on", "one fixed batch; 1024 in the authors' code", "spec:curvature.images"),
    *ALONG_TRAINING,
)
_TRANSFER = (
    "training loss over the last tenth of the steps against the base learning rate; diamonds mark the best one of each "
    "{size}, crosses rates at which a seed diverged, died or ended at chance, and the number is the shift of the best "
    "rate over a factor {span} in the {size}, in steps of a factor 2, within bounds where it lies next to a failure"
)
_DEPTHS, _WIDTHS = _TRANSFER.format(size="depth", span=8), _TRANSFER.format(size="width", span=16)

ARTEFACTS = (
    Artefact(
        id="sc_fig06",
        title="muP without 1/sqrt(L) over the depth, without and with warm-up",
        place="Figure 6",
        shows="μP without 1/√L, with and without warm-up",
        stage="gather",
        spec=NoScalingSpec,
        tables="tables:tabulate_fig06",
        drawing="drawing:draw_fig06",
        size=(16.0, 6.4),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "What happens without the 1/√L of Depth-μP? The initial sharpness grows with the depth, so that deep "
            "networks diverge at rates at which shallow ones train best, unless the learning rate warms up. A line a "
            f"network. From the left: {_DEPTHS} at the end; the share of seeds that failed; "
            "sharpness along training with 2/η₀ (dotted), at the best of the measured rates or, where at each some "
            "depth fails, at the smallest. Right: initial sharpness (with warm-up it is the same) and best learning "
            "rate against the depth. Blocks have the gain 1: with √2, as in the authors' last version, networks of the "
            "paper's 36 layers diverge at both rates that it names."
        ),
        settings=(
            Setting("Parameterization", "μP, branches without 1/√L", "column:parameterization"),
            *_DATA,
            Setting("Depths L (blocks)", "3, 24, 36", "column:depth"),
            Setting("Gain of blocks", "not given; 1 until May 2024, then √2", "spec:networks.warm-up.model.gain"),
            Setting("Channels", "not given", "spec:networks.warm-up.widths"),
            Setting("Batch size", "128", "spec:networks.warm-up.batch_size"),
            Setting("Warm-up steps", "0 and 200", "spec:networks.warm-up.optimizer.warmup_steps"),
            Setting("Base learning rates", "0.068 and 0.53 named", "spec:networks.warm-up.learning_rates"),
            Setting("First looked at after steps", "1 epoch", "spec:first_steps"),
            Setting("Training steps", "20 epochs", "spec:steps"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_fig07",
        title="The standard parameterization over the width, with three warm-ups",
        place="Figure 7",
        shows="the standard parameterization with three warm-ups",
        stage="gather",
        spec=StandardSpec,
        tables="tables:tabulate_fig07",
        drawing="drawing:draw_fig07",
        size=(14.4, 6.4),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "The standard parameterization: variances 1/fan-in, one learning rate. A column a warm-up. Above: "
            f"{_WIDTHS}. Below: sharpness along training at the best of the measured rates, "
            "with 2/η₀ (dotted). Right: initial sharpness, which should grow with the width, and best learning rate "
            "against the width, which should fall, less so after a long warm-up."
        ),
        settings=(
            Setting("Parameterization", "SP", "column:parameterization"),
            *_DATA,
            Setting("Channels", "not given", WIDTH),
            Setting("Batch size", "256", "spec:networks.no warm-up.batch_size"),
            Setting("Warm-up steps, short", "1000", "spec:networks.short warm-up.optimizer.warmup_steps"),
            Setting("Warm-up steps, long", "2000", "spec:networks.long warm-up.optimizer.warmup_steps"),
            Setting("Learning rates", "not given", "spec:networks.no warm-up.learning_rates"),
            Setting("Training steps", "20 epochs", "spec:steps"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_fig08",
        title="muP without skip connections over the depth",
        place="Figure 8",
        shows="μP without skip connections over the depth",
        stage="gather",
        spec=NoSkipsSpec,
        tables="tables:tabulate_fig08",
        drawing="drawing:draw_fig08",
        size=(14.0, 4.0),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            f"Deep networks without skip connections. From the left: {_DEPTHS}; the share of "
            "seeds that failed; sharpness along training with 2/η₀ (dotted) and training loss, at the best of the "
            "measured rates, without the seeds of which a network failed there, up to a fifth of those of a depth. A "
            "network that ends at chance is a failure of its learning rate, not one of low sharpness."
        ),
        settings=(
            Setting("Parameterization", "μP, τ = 0", "column:parameterization"),
            *_DATA,
            Setting("Depths L (blocks)", "3 to 24", "column:depth"),
            Setting("Channels", "not given; 32 and 64 in the authors' code", "spec:networks.no skips.widths"),
            Setting("Batch size", "256", "spec:networks.no skips.batch_size"),
            Setting(
                "Warm-up steps", "not given; 100 in the authors' code", "spec:networks.no skips.optimizer.warmup_steps"
            ),
            Setting("Base learning rates", "0.5275 named", "spec:networks.no skips.learning_rates"),
            Setting("Training steps", "20 epochs", "spec:steps"),
            *_MEASURED,
        ),
    ),
)
