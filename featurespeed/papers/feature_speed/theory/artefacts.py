"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.feature_speed.theory.spec import TheorySpec

ARTEFACTS = (
    Artefact(
        id="fsf_theory",
        title="Infinite-width theory and finite-width corrections (ours)",
        place="Theory (ours)",
        shows="infinite-width theory of the angle, its finite-width corrections and its tail",
        stage="theory",
        spec=TheorySpec,
        tables="tables:tabulate_theory",
        drawing="drawing:draw_theory_figure",
        size=(9.0, 3.6),
        reading=(
            "Left: the limit angle φ(c) at infinite width and depth, in closed form, over exact samples. Middle: how "
            "the angle approaches its infinite-width value. Right: for large c, cos φ(c) falls like 1/c; the paper's "
            "text conjectures 1/√c."
        ),
        settings=(
            Setting("φ(c)", "no formula", "text:closed forms for ReLU and linear networks"),
            Setting("Widths m", "no measurement", WIDTH),
            Setting("Depths L", "no measurement", "column:depth"),
            Setting("Tail of cos φ(c)", "conjectured 1/√c", "text:closed form and exact samples"),
            Setting("Exact samples", "none", "seeds:sampler"),
        ),
    ),
)
