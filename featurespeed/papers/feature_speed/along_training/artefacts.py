"""Figures and tables of this room: their settings, how they are made, what the paper did."""

from featurespeed.papers.entries import WIDTH, Artefact, Setting
from featurespeed.papers.feature_speed.along_training.spec import AlongTrainingSpec

ARTEFACTS = (
    Artefact(
        id="fsf_training",
        title="The formula along training",
        place="Training",
        stage="along_training",
        spec=AlongTrainingSpec,
        gpu=False,
        reading=(
            "The formula at every cut node of networks that minibatch SGD trains, measured in double precision on the "
            "weights kept along training, each layer under its own learning rate; and of transformers that Adam "
            "trains, in the optimizer's form: the weights move by Adam's own next update. There is no figure: the "
            "claims below read the stage table."
        ),
        settings=(
            Setting("How", "proved for any network and loss", "text:measured, relative error of the two sides"),
            Setting("Networks", "ResNets and MLPs at initialisation", "series"),
            Setting("Data", "one Gaussian input", "spec:data.name"),
            Setting("Data of the transformers", "none", "text:images for the ViT, a text by characters for the others"),
            Setting("Widths", "200 to 500", WIDTH),
            Setting("Base learning rates", "none: no training", "column:learning_rate"),
            Setting("Measured after steps", "0", "column:step"),
            Setting("Seeds", "1 to 5", "seeds:jvp"),
        ),
    ),
)
