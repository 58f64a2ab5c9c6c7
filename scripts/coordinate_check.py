"""Coordinate check over the width: activations and updates of every layer (arXiv:2402.17457, Fig. 28).

For every parameterization with each optimizer that it covers, networks of several widths take a few steps from the same
base learning rate. At each of the given steps, on a fixed batch, every layer's output, its change since the
initialisation, and the parts of the change are measured: the effective update by the layer's own weights and the
propagating update by its moved input. More checks of muP stand beside them: with a wrong rule, the readout multiplier
of NTP, and, for Depth-muP too, with outputs that start much smaller: their size at a finite width bends the slopes.
Transformers, on images and on text, do the same with Adam under muP, Depth-muP and SP.
"""

import dataclasses

import pandas as pd

from featurespeed.data.store import load_dataset
from featurespeed.machine.device import acquire_device
from featurespeed.models.networks import Network
from featurespeed.papers.super_consistency.coordinate_check.measuring import coordinate_rows
from featurespeed.papers.super_consistency.coordinate_check.spec import CoordinateSpec
from featurespeed.parameterization import LayerRole, OptimizerName, Parameterization
from featurespeed.pipeline.stage import Task, progress, run_stage
from featurespeed.records import frame

WRONG_RULE, SMALL_OUTPUTS = "wrong rule", "small outputs"


def spoil_readout(network: Network, width: int) -> Network:
    """MuP with one wrong rule: the readout is multiplied with 1/sqrt(N), as in NTP, in place of 1/N."""
    readout = next(layer for layer in network.weighted.values() if layer.role is LayerRole.READOUT)
    readout.rule = dataclasses.replace(readout.rule, multiplier=readout.rule.multiplier * width**0.5)
    return network


def main(spec: CoordinateSpec, task: Task) -> pd.DataFrame:
    """All cases of one artefact as a long table."""
    files = task.by_name("data", suffix=".npz")
    data = {name: load_dataset(files[name]) for name in spec.datasets}
    jobs, images = [], spec.probe_images
    for width in spec.widths:
        jobs += [(spec.model_of(name).kind, spec.training(name, opt, width), images, None) for name, opt in spec.cases]
        mup = spec.training(Parameterization.MUP, OptimizerName.SGD, width)
        jobs.append((WRONG_RULE, mup, images, lambda network, width=width: spoil_readout(network, width)))
        for name in (Parameterization.MUP, Parameterization.DEPTH_MUP):
            jobs.append((SMALL_OUTPUTS, spec.with_small_outputs(name, width), images, None))
    jobs += [(*run, None) for run in spec.transformer_runs]
    rows = []
    with acquire_device() as device:
        for case, job, examples, change in progress(jobs, spec.artefact):
            found = coordinate_rows(job, data[job.data.name], device, examples, change)
            rows += [{"case": case} | row for row in found]
    return frame(rows)


if __name__ == "__main__":
    run_stage(main, CoordinateSpec)
