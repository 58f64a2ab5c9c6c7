"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.feature_speed.theorems.spec import TheoremsSpec

ARTEFACTS = (
    Artefact(
        id="fsf_theorems",
        title="Theorems tested directly",
        place="Theorems",
        stage="theorems",
        spec=TheoremsSpec,
        gpu=False,
        reading=(
            "The theorems and propositions computed directly on small networks in float64, at initialisation and "
            "along training. There is no figure: the claims below read the stage table."
        ),
        settings=(
            Setting("How", "proved", "text:measured on small networks"),
            Setting("Widths m", "any", WIDTH),
            Setting("Depths L", "any", "column:depth"),
            Setting("Seeds", "none", "seeds:any"),
        ),
    ),
)
