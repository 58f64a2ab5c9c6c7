"""Stage tables of coordinate checks with planted exponents: powers of width and depth, times a factor a seed."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from featurespeed.parameterization import (
    DEPTH_MUP_EXPONENTS,
    OptimizerName,
    Parameterization,
    covered_optimizers,
    width_exponents,
)
from featurespeed.records import frame

NAMES = (  # as in config.yaml
    Parameterization.SP,
    Parameterization.NTP,
    Parameterization.MUP,
    Parameterization.DEPTH_MUP,
    Parameterization.RANDOM_FEATURES,
)
WIDTHS, DEPTHS, SEEDS = (64, 128, 256), (4, 8, 16), 4
SAME = {"sgd": 1e-15, "adam, eps = 0": 1e-15, "adam, eps by layer": 2e-15, "adamw, independent decay": 0.0}
TRANSFORMERS = ("ViT", "GPT", "post-LN")
#: Series of a transformer's layers -> the layer of a chain whose exponents in the width it shares.
TRANSFORMER_PARTS = {
    "input": 0,
    "hidden": 1,
    "readout": 2,
    "bias": 0,
    "gain": 0,
    "positions": 0,
    "token": 0,
    "lookup": 0,
}
DIFFERENT = {"adam, one eps": 0.1, "adamw, decay follows layer": 0.01}


def row(**changes) -> dict:
    base = {"depth": 2, "input_dim": 64, "output_dim": 10, "seed": 0, "estimator": "training", "value": 1.0}
    return base | changes


def tilt(seed: int) -> float:
    """By what the exponent of a seed differs from the mean: an interval without any spread decides nothing."""
    return 1e-9 * (seed - (SEEDS - 1) / 2)


def layer_rows(name: Parameterization, optimizer: OptimizerName, layers: int, steps: tuple[int, ...]) -> Iterator[dict]:
    """Every quantity of every layer, with the exponents that the table implies."""
    for number, layer in enumerate(width_exponents(name, optimizer, layers), start=1):
        laws = {
            "activation_rms": layer.activation,
            "update_rms": layer.update,
            "effective_update_rms": layer.effective_update,
            "propagating_update_rms": layer.propagating_update,
        }
        place = {"series": str(layer.role), "layer": number}
        yield from powers(name, optimizer, steps, place, laws)
        if number == layers - 1:
            place = {"series": "features", "layer": number}
            yield from powers(name, optimizer, steps, place, {"feature_update_rms": layer.update})


def powers(name: str, optimizer: str, steps: tuple[int, ...], place: dict, laws: dict) -> Iterator[dict]:
    keys = place | {"parameterization": str(name), "optimizer": str(optimizer)}
    for quantity, law in laws.items():
        for width in WIDTHS:
            for step in steps if quantity != "activation_rms" else (0, *steps):
                for seed in range(SEEDS):
                    value = 0.0 if law is None else (1 + seed) * (1 + step) * float(width) ** (law + tilt(seed))
                    yield row(**keys, quantity=quantity, width=width, step=step, seed=seed, value=value)


def fig28_records(wrong_rule: float = 0.5, small_outputs: float = 0.0) -> pd.DataFrame:
    """A coordinate check in which every parameterization does what the table implies."""
    rows = []
    for name in NAMES:
        for optimizer in covered_optimizers(name)[:2]:
            layers = 4 if name == Parameterization.DEPTH_MUP else 3
            rows += [{"case": "convnet"} | r for r in layer_rows(name, optimizer, layers, (1, 4))]
    checks = (
        ("wrong rule", Parameterization.MUP, 3, wrong_rule),
        ("small outputs", Parameterization.MUP, 3, small_outputs),
        ("small outputs", Parameterization.DEPTH_MUP, 4, small_outputs),
    )
    for case, name, layers, power in checks:
        found = layer_rows(name, OptimizerName.SGD, layers, (1, 4))
        rows += [r | {"case": case, "value": r["value"] * r["width"] ** power} for r in found]
    for label in TRANSFORMERS:
        for name in (Parameterization.SP, Parameterization.MUP, Parameterization.DEPTH_MUP):
            found = layer_rows(name, OptimizerName.ADAM, 3, (1, 4))
            rows += [{"case": f"transformer | {label}"} | r for r in found]
    return frame(r for r in rows if r["step"] or r["quantity"] == "activation_rms")


def table1_records() -> pd.DataFrame:
    """Exponents as stated, with muP as the control over the depth; forms alike where they must be."""
    rows = []
    for name in NAMES:
        for optimizer in covered_optimizers(name):
            layers = 5 if name == Parameterization.DEPTH_MUP else 4
            rows += [{"case": "width"} | r for r in layer_rows(name, optimizer, layers, (1,))]
    for name, excess in (("DEPTH_MUP", 0.0), ("MUP", 2.0)):
        for optimizer in OptimizerName:
            rows += depth_rows(name, str(optimizer), excess)
    for label in TRANSFORMERS:
        for name in (Parameterization.SP, Parameterization.MUP):
            rows += [r | {"case": f"width | {label}"} for r in transformer_rows(name, label)]
        for name, excess in (("DEPTH_MUP", 0.0), ("MUP", 1.0)):
            rows += [r | {"case": f"depth | {label}"} for r in depth_rows(name, "adam", excess)]
    for variant, difference in (SAME | DIFFERENT).items():
        for name in ("MUP", "DEPTH_MUP"):
            keys = {"series": variant, "parameterization": name, "quantity": "curve_difference"}
            keys |= {"optimizer": variant.split(",")[0], "width": 64, "step": 100}
            for case, size in (("forms", difference), ("forms of different seeds", 0.3)):
                rows += [row(**keys, case=case, seed=seed, value=size * (1 + 0.1 * seed)) for seed in range(SEEDS)]
    return frame(rows)


def transformer_rows(name: Parameterization, label: str) -> Iterator[dict]:
    """One step of Adam of a transformer over the width: two layers of each kind, the second three times the first."""
    chain = width_exponents(name, OptimizerName.ADAM, 3)
    place = {"series": "features", "layer": 9}
    yield from powers(name, "adam", (1,), place, {"feature_update_rms": chain[1].update})
    for part, index in TRANSFORMER_PARTS.items():
        if part not in ({"lookup"} if label == "ViT" else {"input", "token"}):
            for layer, factor in ((1, 1.0), (2, 3.0)):
                place = {"series": part, "layer": layer}
                found = powers(name, "adam", (1,), place, {"effective_update_rms": chain[index].effective_update})
                yield from (r | {"value": r["value"] * factor} for r in found)


def depth_rows(name: str, optimizer: str, excess: float) -> Iterator[dict]:
    stated = DEPTH_MUP_EXPONENTS
    keys = {"case": "depth", "parameterization": name, "optimizer": optimizer, "width": 32, "step": 1}
    for depth in DEPTHS:
        for seed in range(SEEDS):
            own = keys | {"depth": depth, "seed": seed}
            size = (1 + seed) * float(depth) ** (excess + tilt(seed))
            for layer in range(2, depth + 2):
                # Layers differ; their mean follows the law.
                value = size * depth ** stated["effective_update_hidden"] * (0.5 if layer % 2 else 1.5)
                yield row(**own, series="hidden", layer=layer, quantity="effective_update_rms", value=value)
                yield row(**own, series="hidden", layer=layer, quantity="propagating_update_rms", value=size)
            value = size * depth ** stated["effective_update_readout"]
            yield row(**own, series="readout", layer=depth + 2, quantity="effective_update_rms", value=value)
            yield row(**own, series="readout", layer=depth + 2, quantity="propagating_update_rms", value=size)
            value = size * depth ** stated["feature_update"]
            yield row(**own, series="features", layer=depth + 1, quantity="feature_update_rms", value=value)
