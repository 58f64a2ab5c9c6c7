"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.feature_speed.tables.spec import ScalingSpec

ARTEFACTS = (
    Artefact(
        id="fsf_table1",
        title="Scalings of the ReLU MLP: measured exponents",
        place="Table 1",
        shows="scalings of the MLP: measured and stated exponents in width, depth, input and output dimension",
        stage="scaling_tables",
        spec=ScalingSpec,
        tables="tables:tabulate_table1",
        drawing="drawing:draw_scaling_table",
        size=(9.0, 8.6),
        reading=(
            "Exponents of width m, depth L, input dimension d and output dimension k for each initialisation scale "
            "and layer learning rate, measured by regression (dots, 95% intervals) beside those stated (diamonds). "
            "Below them the four properties: SP, features of unit size; FL, unit feature speed; LD, unit loss decay; "
            "BC, balanced contributions. A property holds where its measured exponents are 0."
        ),
        settings=(
            Setting(
                "How", "derived; the table was rebuilt from the proof of Proposition 5.3", "text:measured by regression"
            ),
            Setting("Scalings", "NTK, MF+μP, FSC", "column:scaling"),
            Setting("Widths m", "none measured", WIDTH),
            Setting("Depths L", "none measured", "column:depth"),
            Setting("Input dimensions d", "none measured", "column:input_dim"),
            Setting("Output dimensions k", "none measured", "column:output_dim"),
            Setting("Seeds", "none", "seeds:any"),
        ),
    ),
    Artefact(
        id="fsf_table2",
        title="FSC scaling of the ResNet: measured exponents",
        place="Table 2",
        shows="the same for the ResNet",
        stage="scaling_tables",
        spec=ScalingSpec,
        tables="tables:tabulate_table2",
        drawing="drawing:draw_scaling_table",
        size=(9.0, 3.6),
        reading=(
            "The same for the ResNet under the FSC scaling on the ray β ∝ 1/√L, which for constant d and k is depth-μP."
        ),
        settings=(
            Setting(
                "How", "derived; the table was rebuilt from the proof of Proposition 5.4", "text:measured by regression"
            ),
            Setting("Branch scale", "of order 1/√L at most", "spec:branch_scale"),
            Setting("Widths m", "none measured", WIDTH),
            Setting("Depths L", "none measured", "column:depth"),
            Setting("Input dimensions d", "none measured", "column:input_dim"),
            Setting("Output dimensions k", "none measured", "column:output_dim"),
            Setting("Seeds", "none", "seeds:any"),
        ),
    ),
)
