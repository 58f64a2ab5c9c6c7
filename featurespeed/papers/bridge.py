"""Facts about the artefact that connects both papers (ours)."""

from __future__ import annotations

from featurespeed.papers.entries import WIDTH, ArtefactFacts, Setting

FACTS: dict[str, ArtefactFacts] = {
    "sc_bridge": ArtefactFacts(
        "Both papers (ours)",
        "Does the first paper's quantity say where the second paper's learning rates transfer? If features move less "
        "for the same gain in loss, a lower sensitivity S, the learning rate must rise in proportion: S at "
        "initialisation predicts a shift of the best rate. Right, above: that prediction against what happened, with "
        "those from feature speed, angle and initial sharpness (hollow); on the diagonal a prediction is right, in the "
        "band it misses by one step of 2 at most, a number at the border is one that lies outside. Left: the "
        "quantities along training for every width, and below each its coefficient of variation over the widths, "
        "without and with weight decay; grey is what counts as independent of the width, the numbers say for which "
        "share of training. Right, below: spread of the sharpness against that of S, a dot a network and probe step. "
        "Over the depth the networks differ from those over the width where the settings say so.",
        (
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
            Setting("Bands", "not in the papers", "text:curves: range over seeds; the rest: 95%, bootstrap over seeds"),
        ),
    ),
}
