"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.feature_speed.facts import SAMPLER
from featurespeed.papers.feature_speed.sensitivity.spec import SensitivitySpec

ARTEFACTS = (
    Artefact(
        id="fsf_fig2a",
        title="Output sensitivity of the MLP against depth",
        place="Figure 2a",
        shows="sensitivity of the MLP against depth, for three scalings",
        stage="sensitivity",
        spec=SensitivitySpec,
        tables="tables:tabulate_fig2a",
        drawing="drawing:draw_fig2a",
        size=(7.6, 4.2),
        reading=(
            "How far the last hidden layer moves for a unit of loss decay, in an MLP under three output scales. "
            "Medians, because the NTK's sensitivity 1/|f − y| has no mean. The left panel is the sensitivity; the "
            "right one is the quantity that the authors' code calls by that name. Both axes are logarithmic; dotted "
            "lines are the stated powers of L."
        ),
        settings=(
            Setting("Network", "ReLU MLP, embedding and readout not trained", "text:the same"),
            Setting("Depths L", "5, 6, …, 40", "column:depth"),
            Setting("Width m", "400", WIDTH),
            Setting("Output scales", "1/√m (NTK), 1/m (MF+μP), √L/m (FSC)", "series"),
            Setting("Draws", "2", "seeds:jvp"),
            Setting("Target y", "1; input on the unit sphere, d = 10", "spec:target"),
            Setting("Finite step dt", "0.01", "spec:finite_step"),
            SAMPLER,
        ),
    ),
    Artefact(
        id="fsf_fig2b",
        title="Output sensitivity of the ResNet against depth",
        place="Figure 2b",
        shows="sensitivity of the ResNet against depth",
        stage="sensitivity",
        spec=SensitivitySpec,
        tables="tables:tabulate_fig2b",
        drawing="drawing:draw_fig2b",
        size=(7.6, 4.0),
        reading=(
            "The same quantities in a ResNet: constant in depth for both branch scales. The levels printed in the "
            "paper, about 10.4 and 7.75, do not follow from its stated settings; their ratio does. The ledger "
            "reports the two separately."
        ),
        settings=(
            Setting("Network", "ReLU ResNet, readout of scale 1/m", "text:the same"),
            Setting("Depths L", "20, 21, …, 100", "column:depth"),
            Setting("Width m", "400", WIDTH),
            Setting("Branch scales", "1/√L and 1/L", "series"),
            Setting("Draws", "2", "seeds:jvp"),
            Setting("Target y", "1", "spec:target"),
            Setting("Finite step dt", "0.01", "spec:finite_step"),
            SAMPLER,
        ),
    ),
)
