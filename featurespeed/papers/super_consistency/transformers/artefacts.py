"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.super_consistency.readings import ALONG_TRAINING, PRECONDITIONED, TRANSFER
from featurespeed.papers.super_consistency.transformers.spec import (
    CompletePSpec,
    GptDepthSpec,
    PostLnWidthSpec,
    VitDepthSpec,
)

_MEASURED = (
    Setting("Examples measured on", "one fixed batch; 1024 images in the authors' code", "spec:curvature.images"),
    *ALONG_TRAINING,
)
_HESSIAN = (
    "the largest eigenvalue of the Hessian itself times N, and times 1/√L where the learning rate carries it, as the "
    "authors have it."
)
_RARE = (
    "Words that come rarely have a small second moment, by which Adam divides, and so the largest share of it; those "
    "that have not come yet are left out."
)
_BRANCHES = "L counts residual branches, attention and MLP apart."
_TEXT = (
    Setting("Data", "WikiText", "spec:data.name"),
    Setting("Sequence length, tokens", "not given", "spec:data.length"),
)


def _rates(network: str, paper: str = "not given") -> Setting:
    return Setting(f"Base learning rates, {network}", paper, f"spec:networks.{network}.learning_rates")


ARTEFACTS = (
    Artefact(
        id="sc_fig04c",
        title="A ViT with Adam over the depth",
        place="Figure 4c",
        shows="transfer and sharpness of a ViT with Adam over the depth",
        stage="gather",
        spec=VitDepthSpec,
        tables="tables:tabulate_fig04c",
        drawing="drawing:draw_fig04c",
        size=(12.4, 7.0),
        gpu=False,
        groups=("sc_transformers",),
        reading=(
            "Does the best learning rate of a shallow ViT suit a deep one? Branches are multiplied with 1/√L; above "
            "the one learning rate of all layers has another 1/√L, as in the authors' code, below it has none. Left: "
            + TRANSFER.format(size="depth", span=8)
            + " Right: "
            + PRECONDITIONED.format(size="depth", symbol="L")
            + " Middle: "
            + _HESSIAN
            + f" {_BRANCHES} Hollow diamonds, where network and data are theirs: the authors' run of 20 epochs, along "
            "training at the same share of it."
        ),
        settings=(
            Setting("Parameterization", "Depth-μP", "column:parameterization"),
            Setting("Data", "CIFAR-10", "spec:data.name"),
            Setting("Optimizer", "Adam, cross-entropy", "column:optimizer"),
            Setting(
                "Learning rate of all layers",
                "η₀γ²/√L in the authors' code; η₀/√(N L) for hidden layers in the paper's table",
                "text:η₀γ²/√L, and without 1/√L",
            ),
            Setting("Branches L", "6 to 96 in the authors' code", "column:depth"),
            Setting("Units", "128 in the authors' code", WIDTH),
            Setting("Patches", "4 pixels in the authors' code", "spec:networks.ViT.model.patch"),
            Setting("Batch size", "not given; 64 in the authors' code", "spec:networks.ViT.batch_size"),
            Setting("Warm-up steps", "not given; 500 in the authors' code", "spec:networks.ViT.optimizer.warmup_steps"),
            Setting("Training steps", "not given; 20 epochs in the authors' code", "spec:steps"),
            _rates("ViT", "not given; 0.0001 to 0.0013 in the authors' code"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_fig15",
        title="A GPT-2 style decoder with Adam over the depth",
        place="Figure 15",
        shows="transfer and sharpness of GPT-2 with Adam under Depth-μP over the depth",
        stage="gather",
        spec=GptDepthSpec,
        tables="tables:tabulate_fig15",
        drawing="drawing:draw_fig15",
        size=(12.4, 7.0),
        gpu=False,
        groups=("sc_transformers",),
        reading=(
            "A decoder of words under Depth-μP, whose figure varies the depth (its text speaks of the width, and says "
            "the opposite of its caption). Above the learning rate of the branches has no 1/√L, as in the paper, below "
            "it has, as in the table of the paper. Left: "
            + TRANSFER.format(size="depth", span=8)
            + " Right: "
            + PRECONDITIONED.format(size="depth", symbol="L")
            + " Middle: "
            + _HESSIAN
            + f" {_BRANCHES}"
        ),
        settings=(
            Setting("Parameterization", "Depth-μP", "column:parameterization"),
            *_TEXT,
            Setting("Optimizer", "Adam, cross-entropy", "column:optimizer"),
            Setting("Learning rate of branches", "without 1/√L", "text:η₀/√N, and η₀/√(N L)"),
            Setting("Branches L", "not given", "column:depth"),
            Setting("Units", "512", WIDTH),
            Setting("Batch size", "not given", "spec:networks.GPT.batch_size"),
            Setting("Warm-up steps", "none", "spec:networks.GPT.optimizer.warmup_steps"),
            Setting("Training steps", "40 epochs", "spec:steps"),
            _rates("GPT"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_fig16",
        title="A post-LN transformer with Adam over the width",
        place="Figure 16",
        shows="transfer and sharpness of a post-LN transformer with Adam under μP over the width",
        stage="gather",
        spec=PostLnWidthSpec,
        tables="tables:tabulate_sizes",
        drawing="drawing:draw_fig16",
        size=(9.0, 6.6),
        gpu=False,
        groups=("sc_transformers",),
        reading=(
            "A transformer that normalises after each branch, under μP on the left and, not in the paper, under SP on "
            "the right. Above: "
            + TRANSFER.format(size="width", span=16)
            + f" Below: {PRECONDITIONED.format(size='width', symbol='N')} {_RARE}"
        ),
        settings=(
            Setting("Parameterization", "μP", "column:parameterization"),
            *_TEXT[:1],
            Setting("Sequence length, tokens", "35", "spec:data.length"),
            Setting("Optimizer", "Adam, cross-entropy", "column:optimizer"),
            Setting("Layers", "2, with 2 heads", "text:2 (4 branches), with 2 heads"),
            Setting("Widths N", "not given", WIDTH),
            Setting("Batch size", "512", "spec:networks.muP.batch_size"),
            Setting("Warm-up steps", "100", "spec:networks.muP.optimizer.warmup_steps"),
            Setting("Training steps", "20 epochs", "spec:steps"),
            _rates("muP"),
            _rates("SP", "none: SP is ours"),
            *_MEASURED,
        ),
    ),
    Artefact(
        id="sc_completep",
        title="CompleteP beside Depth-muP (ours)",
        place="ours, for Figure 15",
        shows="the decoder of Figure 15 under Depth-μP, CompleteP and u-μP over the depth",
        stage="gather",
        spec=CompletePSpec,
        tables="tables:tabulate_sizes",
        drawing="drawing:draw_completep",
        size=(11.4, 6.4),
        gpu=False,
        groups=("sc_transformers",),
        reading=(
            "Which multiplier of the branches lets the best learning rate of a decoder stay where it is as it grows "
            "deeper: 1/√L (Depth-μP, and u-μP, whose embeddings learn at a rate that falls with the width) or 1/L "
            "(CompleteP)? Above: "
            + TRANSFER.format(size="depth", span=8)
            + " Below: "
            + PRECONDITIONED.format(size="depth", symbol="L")
            + f" {_BRANCHES}"
        ),
        settings=(
            Setting("Parameterizations", "Depth-μP; CompleteP is of arXiv:2505.01618", "column:parameterization"),
            *_TEXT,
            Setting("Optimizer", "Adam, cross-entropy", "column:optimizer"),
            Setting("Branches L", "not given", "column:depth"),
            Setting("Units", "512", WIDTH),
            Setting("Batch size", "not given", "spec:networks.Depth-muP.batch_size"),
            Setting("Training steps", "40 epochs", "spec:steps"),
            _rates("Depth-muP"),
            _rates("CompleteP", "none"),
            *_MEASURED,
        ),
    ),
)
