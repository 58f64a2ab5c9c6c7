"""Measured exponents behind Tables 1 and 2 of arXiv:2311.18718.

Networks are drawn from their exact law with the standard deviations that the table states, in the paper's dense
setting (``|x| = sqrt(d)``, linear loss with ``|dLoss/df_L| = 1/sqrt(k)``). Two things come out, each for a grid of
sizes in which one of ``m, L, d, k`` varies at a time:

- the standard deviations and learning rates that the principle behind the scaling asks for, measured: forward layers
  that
  keep ``rms(f) = 1``, a readout with the backward norm that the scaling wants, and balanced learning rates
  ``eta_l = C/(L |grad_l|^2)`` with C set by loss decay (NTK, FSC) or by feature speed (MF+muP);
- what the *stated* learning rates do: ``rms(f_{L-1})`` (SP), ``rms(df_{L-1}/dt)`` (FL), the loss decay (LD) and the
  largest over the smallest contribution of embedding, hidden layers and readout (BC).
"""

from collections.abc import Iterator

import pandas as pd

from featurespeed.machine.device import acquire_device
from featurespeed.papers.feature_speed.tables.spec import ScalingSpec
from featurespeed.parameterization import LayerRole
from featurespeed.pipeline.stage import progress, run_stage
from featurespeed.probes.sampler import Network, Sample, sample_networks
from featurespeed.randomness import generator
from featurespeed.records import frame
from featurespeed.scalings import Scaling, layer_scaling
from featurespeed.values import branch_scale

Sizes = tuple[int, int, int, int]  # width m, depth L, input dimension d, output dimension k


def size_grid(spec: ScalingSpec) -> list[Sizes]:
    """The reference sizes, then one size at a time."""
    reference = (spec.widths[0], spec.depths[0], spec.input_dims[0], spec.output_dims[0])
    grid = [reference]
    for position, values in enumerate((spec.widths, spec.depths, spec.input_dims, spec.output_dims)):
        grid += [reference[:position] + (value,) + reference[position + 1 :] for value in values[1:]]
    return grid


def stated_network(scaling: Scaling, sizes: Sizes, beta: float, trained: bool) -> Network:
    """The network that the table describes; ``trained`` uses its learning rates, else balanced ones."""
    _, depth, input_dim, output_dim = sizes
    embedding, hidden, readout = (layer_scaling(scaling, role) for role in LayerRole)
    rates = (embedding.learning_rate(*sizes, beta), hidden.learning_rate(*sizes, beta)) if trained else None
    return Network(
        depth=depth,
        branch_scale=beta,
        input_rms=embedding.init_std(*sizes) * input_dim**0.5,
        input_square=float(input_dim),
        readout_std=readout.init_std(*sizes),
        output_gradient=output_dim**-0.5,
        learning_rates=rates,
    )


def backward_rms_wanted(scaling: Scaling, width: int, cos_bfa: float) -> float:
    """``rms(b_{L-1})`` that the scaling asks for: 1/(m cos theta) for FSC (Prop. 4.1), 1/m for MF+muP, 1/sqrt(m) for
    NTK.
    """
    if scaling in (Scaling.FSC, Scaling.RESNET_FSC):
        return 1.0 / (width * cos_bfa)
    return 1.0 / width if scaling == Scaling.MF_MUP else width**-0.5


def measured_rules(scaling: Scaling, sizes: Sizes, beta: float, sample: Sample) -> dict[str, float]:
    """Standard deviations and learning rates that the principle asks for, from one balanced sample."""
    width, depth, input_dim, output_dim = sizes
    network = stated_network(scaling, sizes, beta, trained=False)
    output = float(sample.forward_rms[-1]) * width**0.5 / output_dim**0.5
    gradients = {
        "input": float(sample.backward_norm[0]) * input_dim**0.5,
        "hidden": _geometric_mean(beta * sample.backward_norm[1:] * sample.branch_input_norm[1:]),
        "readout": output,
    }
    constant = 1.0 / float(sample.feature_sensitivity[-1]) if scaling == Scaling.MF_MUP else 1.0
    rates = {f"learning_rate_{role}": constant / (depth * norm**2) for role, norm in gradients.items()}
    backward_rms = float(sample.backward_norm[-1]) * width**-0.5
    wanted = backward_rms_wanted(scaling, width, float(sample.angle[-1].cos()))
    stds = {
        "init_std_input": input_dim**-0.5 / float(sample.forward_rms[0]),
        "init_std_hidden": _hidden_std(width, sample),
        "init_std_readout": network.readout_std * wanted / backward_rms,
    }
    return stds | rates


def _hidden_std(width: int, sample: Sample) -> float:
    """Std at which a branch gives back the rms it receives: ``rms(f)/|phi(f)|``, geometric mean over the layers."""
    return _geometric_mean(sample.forward_rms[:-1] * width**0.5 / sample.branch_input_norm[1:]) * width**-0.5


def _geometric_mean(values) -> float:
    return float(values.log().mean().exp())


def properties(scaling: Scaling, sizes: Sizes, beta: float, sample: Sample) -> dict[str, float]:
    """SP, FL, LD and BC under the stated standard deviations and learning rates, from one trained sample."""
    width, _, _, output_dim = sizes
    decay = sample.loss_decay
    readout_gradient = float(sample.forward_rms[-1]) * width**0.5 * output_dim**-0.5
    readout = layer_scaling(scaling, LayerRole.READOUT).learning_rate(*sizes, beta) * readout_gradient**2
    hidden = float(decay[-1] - decay[0]) / (len(decay) - 1)
    contributions = (float(decay[0]), hidden, readout)
    return {
        "forward_rms": float(sample.forward_rms[-1]),
        "feature_speed_rms": float(sample.feature_sensitivity[-1] * decay[-1]),
        "loss_decay": float(decay[-1]) + readout,
        "contribution_ratio": max(contributions) / min(contributions),
    }


def rows(spec: ScalingSpec, scaling: Scaling, sizes: Sizes, device) -> Iterator[dict]:
    """All quantities of one scaling at one size, every seed."""
    width, depth, input_dim, output_dim = sizes
    beta = branch_scale(spec.branch_scale, depth)
    for measure, trained in ((measured_rules, False), (properties, True)):
        stream = generator(spec.seed, str(scaling), *sizes, measure.__name__, device=device)
        networks = [stated_network(scaling, sizes, beta, trained)] * spec.seeds
        samples = sample_networks(networks, width, stream, layers="all")
        for seed, sample in enumerate(samples):
            for quantity, value in measure(scaling, sizes, beta, sample).items():
                yield {
                    "series": str(scaling),
                    "scaling": str(scaling),
                    "branch_scale": beta,
                    "c": depth**0.5 * beta,
                    "width": width,
                    "depth": depth,
                    "input_dim": input_dim,
                    "output_dim": output_dim,
                    "layer": depth - 1,
                    "seed": seed,
                    "estimator": "sampler",
                    "quantity": quantity,
                    "value": value,
                }


def main(spec: ScalingSpec) -> pd.DataFrame:
    """All scalings of one table at all sizes as one long table."""
    jobs = [(scaling, sizes) for scaling in spec.scalings for sizes in size_grid(spec)]
    with acquire_device() as device:
        return frame(row for job in progress(jobs, spec.artefact) for row in rows(spec, *job, device))


if __name__ == "__main__":
    run_stage(main, ScalingSpec)
