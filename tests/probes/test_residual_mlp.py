"""Series that share weights: equal to the generic probe on each, and the finite step converges to the tangent."""

import pytest
import torch

from featurespeed.models.mlp import hidden_std
from featurespeed.probes import measure_feature_speed
from featurespeed.probes.residual_mlp import SeriesProbe, draw_dense_network
from featurespeed.randomness import generator
from tests.probes.cases import DOUBLE, as_modules, normal, quadratic

BRANCH_SCALES = (1e-3, 0.1, 0.5, 0.999, 1.0)
READOUT_STDS = (0.04, 1.0, 0.2, 0.01, 0.04)
WIDTH, DEPTH, INPUTS = 25, 9, 6


def probe(outputs: int = 1, seed: int = 0, branch_scales=BRANCH_SCALES, readout_stds=READOUT_STDS, dtype=DOUBLE):
    network = draw_dense_network(WIDTH, DEPTH, INPUTS, generator(seed, "dense"), outputs, dtype)
    x, y = normal(INPUTS, seed=seed).to(dtype), normal(outputs, seed=seed + 1).to(dtype)
    return SeriesProbe(network, x, y, branch_scales, readout_stds)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_series_equal_the_generic_probe(outputs, seed):
    series = probe(outputs, seed)
    step = series.exact_tangent()
    assert step.angle.shape == (DEPTH - 1, len(BRANCH_SCALES))
    batch = normal(INPUTS, seed=seed)[None], normal(outputs, seed=seed + 1)[None]
    for column, sizes in enumerate(zip(BRANCH_SCALES, READOUT_STDS, strict=True)):
        reference = measure_feature_speed(as_modules(series.network, *sizes), quadratic, batch)
        for name in (
            "angle",
            "feature_speed",
            "backward_norm",
            "loss_decay",
            "feature_sensitivity",
            "inverse_backward_norm",
        ):
            ours, theirs = getattr(step, name)[:, column], getattr(reference, name)[:-1]
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14, equal_nan=True, msg=f"{name} {sizes}")
        rms = series.features[:, column].square().mean(-1).sqrt()
        torch.testing.assert_close(rms, reference.feature_rms[:-1], rtol=1e-12, atol=0)
    assert bool(step.angle[0].isnan().all()) and not bool(step.angle[1:].isnan().any())


def test_branch_scale_zero_is_the_limit_of_small_branches():
    """At 0 every gradient vanishes and ``eta |grad|^2`` is 0/0: the probe gives the limit, in which nothing turns."""
    zero, small = (probe(branch_scales=[beta], readout_stds=[1.0]).exact_tangent() for beta in (0.0, 1e-7))
    assert float(zero.angle[1:].max()) < 1e-12
    torch.testing.assert_close(zero.feature_speed, small.feature_speed, rtol=1e-5, atol=0)
    torch.testing.assert_close(zero.loss_decay, small.loss_decay)


def test_series_of_a_draw_do_not_touch_each_other():
    together = probe().exact_tangent()
    for column, sizes in enumerate(zip(BRANCH_SCALES, READOUT_STDS, strict=True)):
        alone = probe(branch_scales=sizes[:1], readout_stds=sizes[1:]).exact_tangent()
        torch.testing.assert_close(together.angle[:, column], alone.angle[:, 0], rtol=1e-12, atol=1e-15, equal_nan=True)


@pytest.mark.parametrize("quantity", ["angle", "feature_speed"])
@pytest.mark.parametrize("seed", range(3))
def test_error_of_the_finite_step_halves_with_the_step(quantity, seed):
    """Above the first trained layer, which moves on a straight line; at these steps no unit crosses its kink."""
    series = probe(seed=seed, branch_scales=(0.1, 0.5, 0.9, 1.0), readout_stds=(0.05,) * 4)
    exact = getattr(series.exact_tangent(), quantity)[2:]
    coarse, fine = (getattr(series.finite_step(step), quantity)[2:] - exact for step in (2e-4, 1e-4))
    assert 1e-6 < float((coarse / exact).abs().max()) < 1e-2
    torch.testing.assert_close(coarse / fine, torch.full_like(coarse, 2.0), rtol=0.01, atol=0)


def test_held_relus_matter_only_where_a_unit_crosses_its_kink():
    series = probe(branch_scales=(0.5, 1.0), readout_stds=(0.05,) * 2)
    free, held = (series.finite_step(1e-6, hold_relus=hold).angle[2:] for hold in (False, True))
    torch.testing.assert_close(free, held, rtol=1e-9, atol=1e-12)
    exact = series.exact_tangent().angle[2:]
    free, held = ((series.finite_step(0.1, hold_relus=hold).angle[2:] - exact).abs() for hold in (False, True))
    assert float((free - held).abs().max()) > 1e-3


def test_finite_step_is_a_gradient_step_of_the_network():
    """The rank-one form of the step against weights that are moved by their gradients."""
    series, dt, column = probe(), 1e-3, 2
    sizes = BRANCH_SCALES[column], READOUT_STDS[column]
    layers, moved = as_modules(series.network, *sizes), as_modules(series.network, *sizes)
    x, y = normal(INPUTS)[None], normal(1, seed=1)[None]
    quadratic(layers(x), y).backward()
    f = g = x
    speeds = []
    with torch.no_grad():
        for old, new in zip(layers[:-1], moved[:-1], strict=True):
            if old.weight.grad is not None:
                new.weight -= dt / DEPTH / old.weight.grad.square().sum() * old.weight.grad
            f, g = old(f), new(g)
            speeds.append((g - f).norm() / dt)
    torch.testing.assert_close(series.finite_step(dt).feature_speed[:, column], torch.stack(speeds), rtol=1e-9, atol=0)


def test_single_precision_is_good_to_the_stated_error():
    """The exact tangent in float32 stays within 4e-5 rad of float64."""
    double = draw_dense_network(200, 60, 10, generator(0, "precision"), dtype=DOUBLE)
    single = type(double)(*(w.float() for w in (double.input_weight, double.hidden, double.readout)))
    x, y, betas, stds = normal(10) / 10**0.5, normal(1), [1 / 60, 60**-0.5, 1.0], [1 / 200] * 3
    exact = SeriesProbe(double, x, y, betas, stds).exact_tangent().angle[1:]
    measured = SeriesProbe(single, x.float(), y.float(), betas, stds).exact_tangent().angle[1:].double()
    assert float((measured - exact).abs().max()) < 4e-5


def test_drawn_weights_have_their_standard_deviations_and_reuse_the_buffer():
    buffer = torch.zeros(10 * 40 * 40)
    network = draw_dense_network(40, 10, 100, generator(1, "std"), 7, buffer=buffer)
    assert network.depth == 10 and network.hidden.shape == (8, 40, 40) and network.readout.shape == (7, 40)
    assert network.hidden.data_ptr() == buffer.data_ptr() and float(buffer[8 * 1600 :].abs().max()) == 0
    # relative standard error of a std from n numbers: (2n)^-1/2; four of them below
    assert float(network.hidden.std()) == pytest.approx(hidden_std(40), rel=4 / (2 * 8 * 1600) ** 0.5)
    assert float(network.input_weight.std()) == pytest.approx(0.1, rel=4 / (2 * 4000) ** 0.5)
    assert float(network.readout.std()) == pytest.approx(1.0, rel=4 / (2 * 280) ** 0.5)
    fresh = draw_dense_network(40, 10, 100, generator(1, "std"), 7)
    assert torch.equal(fresh.hidden, network.hidden) and torch.equal(fresh.readout, network.readout)
