"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.bridge.spec import BridgeSpec, DepthBridgeSpec

ARTEFACTS = (
    Artefact(
        id="sc_bridge",
        title="Feature speed beside sharpness and transfer (ours)",
        place="Both papers (ours)",
        shows="does the feature speed of the first paper predict where learning rates transfer in the second?",
        stage="gather",
        spec=BridgeSpec,
        tables="tables:tabulate_bridge",
        drawing="drawing:draw_bridge",
        size=(12.6, 8.6),
        gpu=False,
        groups=("sc_core",),
        reading=(
            "Does the first paper's quantity say where the second paper's learning rates transfer? If features move "
            "less for the same gain in loss, a lower sensitivity S, the learning rate must rise in proportion: S at "
            "initialisation predicts a shift of the best rate. Right, above: that prediction against what happened, "
            "with those from feature speed, angle and initial sharpness (hollow); on the diagonal a prediction is "
            "right, in the band it misses by one step of 2 at most, a number at the border is one that lies outside. "
            "Left: the quantities along training for every width, and below each its coefficient of variation over "
            "the widths, without and with weight decay; grey is what counts as independent of the width, the numbers "
            "say for which share of training. Right, below: slope in the size of the sharpness against that of S, a "
            "dot a network and probe step. Over the depth the networks differ from those over the width where the "
            "settings say so."
        ),
        settings=(
            Setting("Networks", "not in the papers", "series"),
            Setting("Data", "not in the papers", "spec:data.name"),
            Setting("Widths N", "not in the papers", WIDTH),
            Setting("Depths L", "not in the papers", "column:depth"),
            Setting("Training steps", "not in the papers", "spec:steps"),
            Setting(
                "Weight decay, μP (W ← (1 − η₀ × it) W)",
                "not in the papers",
                "spec:networks.muP, weight decay.optimizer.weight_decay",
            ),
            Setting("Weight decay, NTP", "not in the papers", "spec:networks.NTP, weight decay.optimizer.weight_decay"),
            Setting(
                "Feature speed", "first paper: finite step or JVP, at initialisation", "text:exact JVP, along training"
            ),
            Setting("Images measured on", "not in the papers", "spec:curvature.images"),
            Setting("Measured after steps", "not in the papers", "spec:probe_steps"),
            Setting("Seeds", "not in the papers", "spec:seeds"),
            Setting(
                "Bands",
                "not in the papers",
                "text:curves: range over seeds; CV: 95%, bootstrap over seeds; the rest: 95%, t over seeds",
            ),
        ),
    ),
    Artefact(
        id="sc_bridge_depth",
        title="Feature speed and transfer over the depth (ours)",
        place="Both papers (ours)",
        shows="does the first paper's angle say when learning rates stop to transfer over the depth?",
        stage="gather",
        spec=DepthBridgeSpec,
        tables="depth_tables:tabulate_bridge_depth",
        drawing="depth_drawing:draw_bridge_depth",
        size=(12.6, 7.0),
        gpu=False,
        groups=("sc_convnets",),
        reading=(
            "Residual networks with one and with two layers a block, with 1/√L on their branches (solid) and without "
            "(dashed). Above, before the first step, against the depth: 1/cos θ, where θ is the angle between the "
            "updates of the last hidden features and the backward pass, the feature sensitivity and speed there, and "
            "the sharpness. Below, left: the best learning rate, which should stay where these do; hollow points may "
            "lie beyond the grid. Right: the shift of the best rate that keeps learning rate times each quantity "
            "constant, against that observed: on the diagonal a prediction is right, in the band it misses by one step "
            "of 2 at most. Networks without 1/√L have blocks of gain 1 and a warm-up, without which deep ones diverge."
        ),
        settings=(
            Setting("Networks", "not in the papers", "series"),
            Setting("Data", "not in the papers", "spec:data.name"),
            Setting("Depths L", "not in the papers", "column:depth"),
            Setting("Training steps", "not in the papers", "spec:steps"),
            Setting("Feature speed", "first paper: finite step or JVP, at initialisation", "text:exact JVP"),
            Setting("Images measured on", "not in the papers", "spec:curvature.images"),
            Setting("Seeds", "not in the papers", "spec:seeds"),
            Setting("Bands and intervals", "not in the papers", "text:range over seeds; numbers: 95%, t over seeds"),
        ),
    ),
)
