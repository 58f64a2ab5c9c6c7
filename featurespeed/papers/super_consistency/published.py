"""Points read off the authors' own plots for arXiv:2402.17457 (``published.csv``), and what they are in our units.

The plots, and some printed numbers, stand in the notebooks of the authors' repository
(lorenzonoci/nn_large_depth_width_landscape at 6c50081). ``published.csv`` has the columns ``figure, panel, series, x,
y, x_err, y_err, note`` in the authors' units: ``figure`` is the paper's number as far as settings, file names and text
fix it, else ``draft:<notebook>[@commit]:<cell>``; errors are those of the reading (0 where a number is printed), not of
seeds. All rows are kept; :func:`published_points` gives those that belong to runs made here, and :data:`NOT_COMPARED`
says of all others why they do not.

Those that do are of one set of runs (notebook ``plot_results_2``, Figures 2, 3 and 23): the authors' ConvNet, three
blocks without skip connections, muP at 0.7, batches of 256, 10 epochs. What is converted, with its source:

- Width: their ``N`` counts the inputs of the readout, four for each channel (2x2 pixels are left; ``cifar_arch.py``),
  as that of our curves does (:func:`featurespeed.sweeps.transfer.widths_of`); the settings of a run give channels.
- Hessian: plotted is ``N`` times the eigenvalue or trace, and ``gamma^2 = N`` (``cifar_arch.py``), so these are
  eigenvalues and traces of ``gamma^2 H``, as ours are.
- NTK: plotted is ``N`` times an eigenvalue of the kernel over 1024 images and ten classes, summed over the images (the
  authors checked their call in ``ntk.ipynb``); ours is divided by their number
  (:class:`featurespeed.curvature.operators.NeuralTangentKernel`) and has the learning rates of the layers,
  ``gamma^2 = N`` each, so it is a 1024th.
- Steps: a record every 10 batches, counted from 0 in each epoch anew (``train_test.py``): see :func:`step_of`. Axes are
  numbers of records; those in epochs are a 19th of them.
- Smoothing: some curves are means of two successive records (cells 6 and 11); they stand at the mean of their steps.
- Losses are means over the batches since the last record, ten of them as ours; first records of an epoch (1, 20, 39,
  ...) hold eleven batches and are divided by ten, and none of these was read.
- Gaps: the loss minus that of the network with ``N = 2048`` in the same units, and the NTK's eigenvalue of that network
  minus its own, both positive where curves have parted.

Of these runs the notebook does not print the warm-up, and it contradicts itself about augmentation: its title says that
there is none, the names under which its figures are saved say that there is. Its losses fit augmented images
(``docs/discrepancies.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pandas as pd

POINTS = Path(__file__).with_name("published.csv")
COLUMNS = ("figure", "panel", "quantity", "index", "width", "N", "learning_rate", "step", "y", "y_err", "note")

BATCHES = 196  # of an epoch: 50,000 images, 256 a batch, the last one smaller
RECORD_EVERY = 10  # batches
RECORDS = 19  # of an epoch
IMAGES = 1024  # over which the NTK is summed
INPUTS_PER_CHANNEL = 4  # of the readout
RATE = 0.7
PROXY = 2048  # N of the network that stands for infinite width in gaps


def step_of(record: int) -> int:
    """How many updates the network of a record has had.

    Record 0 is the initial network. The others follow the batches 10, 20, ..., 190 of each epoch, counted from 0.

    >>> [step_of(record) for record in (0, 1, 19, 20)]
    [0, 11, 191, 207]
    """
    if record == 0:
        return 0
    epoch, place = divmod(record - 1, RECORDS)
    return epoch * BATCHES + (place + 1) * RECORD_EVERY + 1


@dataclass(frozen=True)
class Conversion:
    """How the points of one panel become numbers of our stage tables.

    Attributes:
        quantity: name in the stage tables; with ``_gap`` a difference from the network with N = 2048.
        index: of the eigenvalue; 0 of what is none.
        x: what the panel's x is; the record, width or index that it is not stands in ``series``.
        divisor: of y and its error.
        averaged: successive records of which a point is the mean.
    """

    quantity: str
    index: int = 0
    x: Literal["record", "epoch", "width", "index"] = "record"
    divisor: float = 1.0
    averaged: int = 1


def _kernel(index: int) -> Conversion:
    return Conversion("ntk_eigenvalue", index, "epoch", IMAGES, averaged=2)


_LOSS_GAP = Conversion("training_loss_gap", averaged=2)
_KERNEL_GAP = "gap of the top NTK eigenvalue (times N) to the width-2048 proxy against width"

#: (figure, panel) -> how its points are converted.
CONVERSIONS: Mapping[tuple[str, str], Conversion] = MappingProxyType(
    {
        ("2", "lambda_max(H) times N against record index"): Conversion("sharpness", 1),
        ("2", "Hessian eigenvalues times N (top 1 to 9) against eigenvalue index"): Conversion("sharpness", x="index"),
        ("2", "NTK lambda_1 times N against epoch"): _kernel(1),
        ("2", "NTK lambda_5 times N against epoch"): _kernel(5),
        ("2", "NTK lambda_10 times N against epoch"): _kernel(10),
        ("3", "train loss of the Fig 2/3 runs against record index"): Conversion("training_loss"),
        ("3", "loss gap to the width-2048 proxy against record index"): _LOSS_GAP,
        ("3", "loss gap to the width-2048 proxy (single seed)"): _LOSS_GAP,
        ("23", "Hessian trace times N against record index"): Conversion("hessian_trace"),
        ("23", _KERNEL_GAP): Conversion("ntk_eigenvalue_gap", 1, "width", IMAGES),
    }
)

_FIT = "the exponent of a fit over other steps than ours, not a point of a curve"
_FOUR_TIMES = "final losses after 80 epochs, more than the runs here have; their best rates are compared with ours"
_BATCH = "two layers a block along 80 epochs at a batch size, and in part at a learning rate, that is not printed"
_BY_EPOCHS = f"{_BATCH}: beside ours by epochs, where drawn, and not compared"
_ADAM = "Adam at one rate for all layers, without its factors of muP: no such run here"
_TRANSFORMER = "the ViT after 20 epochs, and along them: drawn over ours in Figure 4c, and not compared"
_DRAFT_FIG11 = "a draft with a residual ConvNet, branches times 3, no gain in blocks; Figure 11 here has another net"
_OTHER_RATE = "a draft of Figure 2 at another learning rate and with 25 epochs"
_HIDDEN_FORM = "hidden layers in the form of SP under the rates of muP, which the authors corrected later"
_PROXIES = "divided by the loss of the widest network, which is not the same one for all seeds"

#: (figure, panel), or (figure, panel, series), whose points match no run of ours -> why.
NOT_COMPARED: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("3", "power-law exponent b of the loss gap against N"): _FIT,
        ("3", "power-law exponent b of the NTK gap against N"): _FIT,
        ("4b", "LR transfer over depth (muSGD 2 layers/block)"): _FOUR_TIMES,
        ("4b", "sharpness times N against record 2 layers/block (one run)"): _BATCH,
        ("4c", "ViT LR transfer over depth (Depth-muP Adam with 1/sqrt L)"): _TRANSFORMER,
        ("4c", "ViT sharpness times N/sqrt(L) against epoch"): _TRANSFORMER,
        ("11", "Gauss-Newton top eigenvalue / (1024 x Hessian top eigenvalue) against record"): _DRAFT_FIG11,
        ("11", "residual norm against Gauss-Newton top eigenvalue (muP)"): _DRAFT_FIG11,
        ("11", "residual norm against record"): _DRAFT_FIG11,
        ("20", "Adam conv LR transfer over depth 1 layer/block (no LR/sqrt L)"): _ADAM,
        ("20", "Adam conv sharpness times 32 against epoch 2 layers/block (no LR/sqrt L)"): _ADAM,
        ("22", "loss gap to the label-192 net over depth 2 layers/block"): _BATCH,
        ("22", "power-law exponent b of the loss gap against depth label"): _BATCH,
        ("23", "exponent of the relative loss gap in width against record"): _PROXIES,
        ("23", "relative loss gap to the widest net against width"): _PROXIES,
        ("23", _KERNEL_GAP, "record 20"): "so early the gap is as small as the noise, and its sign is not known",
        ("25", "10th Hessian eigenvalue over depth 2 layers/block"): _BY_EPOCHS,
        ("25", "3rd Hessian eigenvalue over depth 2 layers/block"): _BY_EPOCHS,
        ("25", "NTK lambda_1 (not times N) over depth 2 layers/block"): _BY_EPOCHS,
        ("25", "NTK lambda_10 (not times N) over depth 2 layers/block"): _BY_EPOCHS,
        ("25", "NTK lambda_5 (not times N) over depth 2 layers/block"): _BY_EPOCHS,
        ("27", "directional sharpness (raw) against record"): "three numbers of a network whose depth is not printed",
        ("draft:plot_results:2", "SimpleConvNet muP LR sweep"): "2 and 29 channels: narrower than any network here",
        (
            "draft:visualize-Copy1:3",
            "LR sweep over width muP tau=0 (spectrum runs)",
        ): "final losses of a run that is made nowhere here: 20 epochs at a batch of 256, other rates than Figure 27",
        (
            "draft:visualize-Copy2:4",
            "LR transfer over depth (Depth-muP SGD 1 layer/block)",
        ): "final losses after 40 epochs, more than the runs here have; their best rates are compared with ours",
        ("draft:visualize:10", "NTK lambda_1 times N against epoch (25 epochs)"): _OTHER_RATE,
        ("draft:visualize:4", "Adam LR sweep over width (muadam)"): _ADAM,
        ("draft:visualize:4", "train loss against record (Adam muadam)"): _ADAM,
        ("draft:visualize:8", "raw Hessian trace over depth 2 layers/block"): _BATCH,
        ("draft:visualize@1579347:6", "1st Hessian eigenvalue times channels against epoch"): _OTHER_RATE,
        ("draft:visualize@36c4fe6:3", "LR transfer over depth muP tau=0 (SP-layer bug)"): _HIDDEN_FORM,
        ("draft:visualize@36c4fe6:4", "raw sharpness over depth muP tau=0 (SP-layer bug)"): _HIDDEN_FORM,
        ("draft:visualize@53f9aab:3", "LR transfer over width muP tau=0"): _OTHER_RATE,
        ("draft:visualize@66cf416:8", "raw sharpness against record (1 per epoch) lr=0.003162"): _DRAFT_FIG11,
        (
            "draft:visualize@b162815:2",
            "LR transfer over width muP base shape 128 (rebuttal net, 3 convs, no blocks)",
        ): "a network without blocks and with gamma^2 = N/128, which is not in the paper",
    }
)


def read_published(path: Path = POINTS) -> pd.DataFrame:
    """All points as they were read, in the authors' units."""
    return pd.read_csv(path, dtype={"figure": str})


def why_not(figure: str, panel: str, series: str) -> str:
    """Why a point is compared with no run of ours, "" if it is."""
    return NOT_COMPARED.get((figure, panel)) or NOT_COMPARED.get((figure, panel, series), "")


def published_points(figure: str, path: Path = POINTS) -> pd.DataFrame:
    """The points of a figure that belong to runs made here, in the units of our stage tables.

    Columns ``figure, panel, quantity, index, width, N, learning_rate, step, y, y_err, note``: ``width`` in channels,
    ``N = 4 width`` as the authors count, ``step`` in updates (between two of them where two records are averaged),
    ``y_err`` the error of the reading.
    """
    raw = read_published(path)
    return pd.DataFrame(_converted(raw[raw["figure"] == figure]), columns=list(COLUMNS))


def _converted(raw: pd.DataFrame) -> Iterator[tuple]:
    for point in raw.itertuples():
        if why_not(point.figure, point.panel, point.series):
            continue
        how = CONVERSIONS[point.figure, point.panel]
        inputs = int(point.x) if how.x == "width" else _named(point.series, "N")
        index = int(point.x) if how.x == "index" else how.index
        last = _record(point, how)
        step = sum(step_of(last - back) for back in range(how.averaged)) / how.averaged
        yield (
            point.figure, point.panel, how.quantity, index, inputs // INPUTS_PER_CHANNEL, inputs, RATE, step,
            point.y / how.divisor, point.y_err / how.divisor, point.note,
        )  # fmt: skip


def _record(point: tuple, how: Conversion) -> int:
    if how.x == "epoch":
        return round(point.x * RECORDS)
    return int(point.x) if how.x == "record" else _named(point.series, "record")


def _named(series: str, name: str) -> int:
    """The whole number that follows a name, as in ``N=512 record=20 seed=5`` or ``record 20``."""
    found = re.search(rf"\b{name}[= ](\d+)", series)
    if not found:
        raise ValueError(f"series = {series!r}: must give {name}, as in '{name}=20'")
    return int(found[1])
