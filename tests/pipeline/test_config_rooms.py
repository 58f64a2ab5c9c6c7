"""Settings with which a room would train, and then have nothing to gather or draw, are refused before anything runs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from featurespeed.pipeline.config import ConfigError
from featurespeed.pipeline.registry import ARTEFACTS
from featurespeed.values import Spec, check_file_names, check_labels
from tests.pipeline.test_config import load

SMOKE = load({"scale": "smoke"})
OVER_WIDTH = {
    "sc_conventions": ["sharpness"],
    "sc_fig01": ["sharpness"],
    "sc_fig02": ["sharpness", "ntk_eigenvalue"],
    "sc_fig03": ["sharpness"],
    "sc_fig07": ["sharpness"],
    "sc_fig09": ["sharpness"],
    "sc_fig11": ["gauss_newton_eigenvalue", "residual_norm"],
    "sc_fig12": ["sharpness"],
    "sc_fig13": ["sharpness"],
    "sc_fig14": ["sharpness"],
    "sc_fig16": ["preconditioned_sharpness"],
    "sc_fig17": ["sharpness"],
    "sc_fig19": ["sharpness"],
    "sc_fig21": ["preconditioned_sharpness"],
    "sc_fig23": ["sharpness"],
    "sc_fig24": ["sharpness"],
    "sc_fig26": ["sharpness"],
    "sc_fig27": ["directional_sharpness"],
}
OVER_DEPTH = {
    "sc_bridge_depth": ["sharpness", "feature_speed"],
    "sc_completep": ["preconditioned_sharpness"],
    "sc_fig04": ["sharpness"],
    "sc_fig04c": ["preconditioned_sharpness", "gamma_sharpness"],
    "sc_fig06": ["sharpness"],
    "sc_fig08": ["sharpness"],
    "sc_fig15": ["preconditioned_sharpness", "gamma_sharpness"],
    "sc_fig18": ["sharpness"],
    "sc_fig20": ["preconditioned_sharpness"],
    "sc_fig22": ["sharpness"],
    "sc_fig25": ["sharpness", "ntk_eigenvalue"],
}
#: Whose networks may differ in the data or the batch alone, so that a change of one of them is refused as such.
ALIKE = ("sc_fig12", "sc_fig13", "sc_fig14")
#: Whose networks claims and figure know by their labels.
NAMED = ("sc_fig07", "sc_fig16", "sc_fig17", "sc_fig19", "sc_fig21", *ALIKE)
MAPS = ["beos_fig1", "beos_fig2", "beos_fig3", "beos_fig4", "beos_fig5", "beos_table1"]


def changed(name: str, edit: Callable[[dict], object]) -> Spec:
    """The settings of an artefact at scale smoke after an edit of them; networks can be taken away, too."""
    params = copy.deepcopy(SMOKE.params(name))
    edit(params)
    return ARTEFACTS[name].spec.model_validate(params)


def assert_refused(name: str, edit: Callable[[dict], object], *words: str) -> None:
    """The settings as they are are accepted, the edited ones are not."""
    changed(name, lambda params: None)
    with pytest.raises(ValueError) as fault:
        changed(name, edit)
    message = fault.value.errors()[0]["msg"]
    assert [word for word in words if word not in message] == [], message


def first(settings: dict) -> str:
    """The first label."""
    return next(iter(settings))


def renamed(params: dict, key: str, old: str, new: str) -> None:
    """One label of the settings, wherever it stands."""
    params[key] = {new if label == old else label: value for label, value in params[key].items()}
    if isinstance(params.get("shown"), dict):
        params["shown"] = {new if label == old else label: rate for label, rate in params["shown"].items()}
    for runs in [*params.get("scalings", {}).values(), *filter(None, [params.get("geometry_aware")])]:
        runs["networks"] = [new if label == old else label for label in runs["networks"]]


def without(params: dict, key: str, *labels: str) -> None:
    """Settings without some of their labels."""
    for label in labels:
        del params[key][label]


# --- figures over the width -------------------------------------------------------------------------------------------


def test_every_figure_over_sizes_is_looked_at_here():
    gathered = {name for name, artefact in ARTEFACTS.items() if artefact.stage == "gather" and artefact.drawn}
    assert gathered == {*OVER_WIDTH, *OVER_DEPTH, "sc_bridge"}
    assert set(MAPS) | {"beos_bridge"} == {name for name in ARTEFACTS if ARTEFACTS[name].stage == "gather_descent"}


@pytest.mark.parametrize("sizes", [{"depths": [1, 2, 4]}, {"depths": [1, 2, 4], "widths": [4]}])
@pytest.mark.parametrize("name", [name for name in OVER_WIDTH if name not in ("sc_conventions", "sc_fig27", *NAMED)])
def test_a_figure_over_the_width_has_one_depth(name, sizes):
    label = first(SMOKE.params(name)["networks"])
    words = (f"networks.{label}.depths = [1, 2, 4]", "over the width", "model.depth")
    model = {"kind": "convnet", "depth": 2, "tau": 1}  # of which there is one at each of these depths
    assert_refused(name, lambda params: params["networks"][label].update(sizes, model=model), *words)
    assert changed(name, lambda params: params["networks"][label].update(depths=[2], model=model))


@pytest.mark.parametrize(
    ("name", "quantity"), [(name, one) for name, several in (OVER_WIDTH | OVER_DEPTH).items() for one in several]
)
def test_a_figure_has_what_it_shows(name, quantity):
    def edit(params: dict) -> None:
        left = [one for one in params["curvature"]["quantities"] if one != quantity]
        params["curvature"]["quantities"] = left or ["residual_eigenvalue"]

    assert_refused(name, edit, "curvature.quantities = [", f"must hold {quantity}")


@pytest.mark.parametrize("name", OVER_DEPTH)
def test_a_figure_over_the_depth_has_several_depths_and_one_width(name):
    label = first(SMOKE.params(name)["networks"])
    model = SMOKE.params(name)["networks"][label]["model"]
    depths = SMOKE.params(name)["networks"][label]["depths"]
    none = (f"networks.{label}.depths = null", "over the depth", "at least 2")
    assert_refused(
        name, lambda params: params["networks"][label].update(depths=None, widths=[4, 8], model=model), *none
    )
    one = (f"networks.{label}.depths = [6]", "over the depth", "at least 2")
    assert_refused(name, lambda params: params["networks"][label].update(depths=[6], widths=[4, 8]), *one)
    both = (f"networks.{label}.depths = {depths}", "widths = [4, 8]", "give one width or leave depths out")
    assert_refused(name, lambda params: params["networks"][label].update(widths=[4, 8]), *both)


@pytest.mark.parametrize("name", [*OVER_DEPTH, *NAMED])
def test_a_network_that_a_figure_knows_by_its_label_is_needed(name):
    label = first(SMOKE.params(name)["networks"])
    assert_refused(name, lambda params: renamed(params, "networks", label, "another"), f"{label!r} is needed")


#: Figure, network, setting, a value that its label denies, and what the message says.
DENIED = [
    ("sc_fig04", "1 layer a block", "parameterization", "MUP", "must be DEPTH_MUP, as the label says"),
    ("sc_fig04", "2 layers a block", "model.layers_per_block", 1, "must be 2, as the label says"),
    ("sc_fig22", "1 layer a block", "model.alpha", 0.5, "must be null, as the label says"),
    ("sc_fig25", "1 layer a block", "model.tau", 2, "must be 1, as the label says"),
    ("sc_fig06", "no warm-up", "optimizer.warmup_steps", 5, "must be 0, as the label says"),
    ("sc_fig06", "warm-up", "optimizer.warmup_steps", 0, "must be longer than that of networks.no warm-up, 0"),
    ("sc_fig06", "warm-up", "optimizer.warmup_steps", 21, "at most steps = 20"),
    ("sc_fig06", "warm-up", "parameterization", "DEPTH_MUP", "must be MUP, as the label says"),
    ("sc_fig07", "long warm-up", "optimizer.warmup_steps", 5, "must be longer than that of networks.short warm-up, 5"),
    ("sc_fig07", "long warm-up", "parameterization", "MUP", "must be SP, as the label says"),
    ("sc_fig06", "warm-up", "depths", [3, 9], "depths = [3, 9]: must be that of networks.no warm-up, [3, 6]"),
    ("sc_fig07", "short warm-up", "widths", [4, 16], "widths = [4, 16]: must be that of networks.no warm-up, null"),
    ("sc_fig07", "long warm-up", "batch_size", 4, "must be that of networks.no warm-up"),
    ("sc_fig04", "2 layers a block", "batch_size", 4, "batch_size = 4: must be that of networks.1 layer a block"),
    ("sc_fig25", "2 layers a block", "optimizer.warmup_steps", 7, "must be that of networks.1 layer a block"),
    ("sc_fig08", "no skips", "model.tau", 1, "must be 0, as the label says"),
    ("sc_fig20", "1 layer a block", "optimizer.depth_rates", False, "must be null or true, as the label says"),
    ("sc_fig20", "1 layer a block, no 1/sqrt(L) in the rate", "optimizer.depth_rates", True, "must be false, as"),
    ("sc_fig20", "2 layers a block, no 1/sqrt(L) in the rate", "batch_size", 8, "that of networks.2 layers a block"),
    ("sc_fig21", "Adam, one rate for all layers", "optimizer.layer_rates", "table", "must be common, as the label"),
    ("sc_fig21", "Adam", "optimizer.layer_rates", "common", "must be table, as the label says"),
    ("sc_fig21", "AdamW", "optimizer.weight_decay", 0, "without it, AdamW is Adam"),
    ("sc_fig21", "AdamW", "optimizer.name", "adam", None),
    ("sc_bridge_depth", "1 layer a block, no 1/sqrt(L)", "parameterization", "DEPTH_MUP", "must be MUP, as the label"),
]


@pytest.mark.parametrize("name", ["sc_fig17", "sc_fig18", "sc_fig19"])
def test_residual_convnets_are_no_transformers(name):
    vit = {"kind": "vit", "depth": 2, "tau": 1, "convention": "authors", "heads": 2, "patch": 2}

    def edit(params: dict) -> None:
        for network in params["networks"].values():
            network["model"] = vit
            if network["depths"]:
                network["depths"] = [2, 4]

    assert_refused(name, edit, "model.kind = vit: must be convnet")


@pytest.mark.parametrize(("name", "label", "key", "value", "words"), DENIED)
def test_a_network_is_what_its_label_says(name, label, key, value, words):
    def edit(params: dict) -> None:
        *blocks, last = key.split(".")
        target = params["networks"][label]
        for block in blocks:
            target = target[block]
        target[last] = value

    assert_refused(name, edit, *([f"networks.{label}", key, words] if words else ["adam"]))


@pytest.mark.parametrize("name", ["sc_fig01", "sc_fig02", "sc_fig04", "sc_fig08", "sc_fig11", "sc_fig12", "sc_fig27"])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "adam"}, ("optimizer.name = adam: must be sgd", "2/eta_0", "Figures 20 and 21")),
        ({"momentum": 0.5}, ("optimizer.momentum = 0.5: must be 0", "2/eta_0")),
    ],
)
def test_the_edge_of_a_figure_is_that_of_its_optimizer(name, settings, words):
    def edit(params: dict) -> None:
        for network in params["networks"].values():
            if network["parameterization"] != "NTP":  # which has no Adam anywhere
                network["optimizer"] = network["optimizer"] | settings

    assert_refused(name, edit, *words)


@pytest.mark.parametrize("name", [*OVER_DEPTH, "sc_fig07", "sc_fig21", "sc_fig12"])
@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([0, 20], "1 of them after step 0, at least 2 are needed"),
        ([10, 15, 20], "must hold 0, where the figure begins"),
        ([0, 5, 10], "the last is 10, must be in the last tenth of training"),
    ],
)
def test_curvature_is_measured_from_the_first_step_to_the_last(name, steps, words):
    def edit(params: dict) -> None:
        params["probe_steps"], params["curvature"]["steps"] = steps, None

    assert_refused(name, edit, "probe_steps = [", words)


def at_steps(steps: list[int] | None, probe_steps: tuple[int, ...] = (0, 5, 10, 15, 20)) -> Callable[[dict], None]:
    """An edit: curvature is measured at some of the probe steps of training that takes 20."""

    def edit(params: dict) -> None:
        params["probe_steps"] = list(probe_steps)
        params["curvature"]["steps"] = steps

    return edit


@pytest.mark.parametrize("name", [*OVER_DEPTH, "sc_fig07", "sc_fig21", "sc_fig12"])
@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([0, 7, 20], "curvature.steps = 7: not one of probe_steps = [0, 5, 10, 15, 20]"),
        ([0, 20], "curvature.steps = [0, 20]: with steps = 20; 1 of them after step 0, at least 2 are needed"),
        ([20], "steps = 20: holds 1 of curvature.steps = [20], at least 2 are needed"),
        ([5, 10, 20], "curvature.steps = [5, 10, 20]: with steps = 20; must hold 0, where the figure begins"),
        ([0, 5, 15], "curvature.steps = [0, 5, 15]: with steps = 20; the last is 15, must be in the last tenth"),
    ],
)
def test_steps_at_which_curvature_is_measured_are_probe_steps_from_the_first_to_the_last(name, steps, words):
    assert changed(name, at_steps([0, 10, 20])).curvature.steps == [0, 10, 20]
    assert_refused(name, at_steps(steps), words)


@pytest.mark.parametrize("name", ["sc_fig25", "sc_fig04"])
def test_a_step_beyond_the_last_one_is_refused(name):
    assert_refused(name, at_steps([0, 10, 20, 30]), "curvature.steps = 30")


def test_figures_that_share_a_training_job_may_measure_at_other_steps():
    """Fewer ones leave the job as it is; its measurement is another one."""
    whole, some = (changed("sc_fig25", at_steps(steps)) for steps in (None, [0, 10, 20]))
    assert list(whole.training_runs) == list(some.training_runs)
    assert {tuple(job.probe_steps) for job in some.training_runs.values()} == {(0, 5, 10, 15, 20)}
    assert [found.steps for found in some.measurements] == [[0, 10, 20]] * len(some.measurements)
    assert not {found.name for found in whole.measurements} & {found.name for found in some.measurements}


def test_a_network_without_a_place_in_the_figure_is_not_trained():
    def edit(params: dict) -> None:
        params["networks"]["one more"] = params["networks"]["no skips"]

    assert_refused("sc_fig08", edit, "networks.one more: has no place in the figure, allowed: no skips")


def test_a_label_of_the_figure_may_be_meant():
    def edit(params: dict) -> None:
        params["networks"]["Warmup"] = params["networks"]["warm-up"]

    assert_refused(
        "sc_fig06", edit, "networks.Warmup: has no place", "allowed: no warm-up; warm-up; did you mean 'warm-up'"
    )


def test_losses_are_recorded_and_eigenvalues_exist():
    assert_refused("sc_fig08", lambda params: params.update(record_every=21), "record_every = 21: at most steps = 20")
    many = "curvature.eigenvalues = 81: at most 10 curvature.images = 80"
    assert_refused("sc_fig25", lambda params: params["curvature"].update(eigenvalues=81), many)


@pytest.mark.parametrize("label", ["a | b", "N=wide"])
@pytest.mark.parametrize("name", [name for name in OVER_WIDTH if name not in NAMED])
def test_a_label_of_a_network_is_no_other_name(name, label):
    old = first(SMOKE.params(name)["networks"])
    assert_refused(
        name, lambda params: renamed(params, "networks", old, label), f"networks = {label!r}", "a label must"
    )


def test_a_depth_sweep_is_told_in_one_line_with_its_key():
    with pytest.raises(ConfigError) as fault:
        ours = {"kind": "convnet", "convention": "ours", "strides": None}
        load({"sc_fig01": {"networks": {"muP": {"depths": [1, 2, 4], "model": ours}}}})
    line = str(fault.value)
    assert line.startswith("config: sc_fig01: networks.muP.depths = [1, 2, 4]: the figure is over the width")
    assert "\n" not in line


# --- one figure each --------------------------------------------------------------------------------------------------

PAIR = "muP, weight decay"
EVERY = ["muP", "NTP", "Depth-muP over depth", "muP over depth"]
NO_PAIR = {"rel1": {"networks": ["r = 0"]}, "none": {"networks": ["r = 2"]}}

REFUSED = {
    "bridge, both sizes vary": (
        "sc_bridge",
        lambda params: params["networks"]["muP over depth"].update(widths=[4, 8]),
        ["networks.muP over depth.depths = [3, 6]", "widths = [4, 8]", "give one width or leave depths out"],
    ),
    "directional sharpness, both sizes vary": (
        "sc_fig27",
        lambda params: params["networks"]["Depth-muP"].update(widths=[4, 8]),
        ["networks.Depth-muP.depths = [3, 6]", "widths = [4, 8]", "give one width or leave depths out"],
    ),
    "bridge, nothing that shifts": (
        "sc_bridge",
        lambda params: without(params, "networks", *EVERY),
        ["networks = ['muP, weight decay', 'NTP, weight decay']", "one of muP, NTP, Depth-muP over depth"],
    ),
    "bridge, an unknown network": (
        "sc_bridge",
        lambda params: params["networks"].update({"muP over deph": params["networks"]["muP over depth"]}),
        ["networks.muP over deph: has no place in the figure", "muP over depth; muP, weight decay"],
    ),
    "bridge, no common width": (
        "sc_bridge",
        lambda params: params["networks"][PAIR].update(widths=[5, 9]),
        [f"networks.{PAIR}.widths = [5, 9]", "at least 2 of those of muP", "[4, 8]"],
    ),
    "bridge, one common width": (
        "sc_bridge",
        lambda params: params["networks"][PAIR].update(widths=[4, 9]),
        [f"networks.{PAIR}.widths = [4, 9]", "at least 2"],
    ),
    "bridge, no speed": (
        "sc_bridge",
        lambda params: params["curvature"].update(quantities=["sharpness"]),
        ["must hold feature_speed"],
    ),
    "bridge, no sharpness": (
        "sc_bridge",
        lambda params: params["curvature"].update(quantities=["feature_speed"]),
        ["must hold sharpness"],
    ),
    "map, nothing constant": ("beos_fig3", lambda params: params.update(scalings={}), ["scalings = {}"]),
    "curves, nothing constant": (
        "beos_fig2",
        lambda params: params.update(scalings={}, geometry_aware=SMOKE.params("beos_fig1")["geometry_aware"]),
        ["scalings = {}", "constant step size"],
    ),
    "curves, nothing shown": (
        "beos_fig4",
        lambda params: [runs.update(kappas=[3.0]) for runs in params["scalings"].values()],
        ["shown = [0.5, 8.0, 32.0]", "[3.0]"],
    ),
    "no geometry-aware run": (
        "beos_fig5",
        lambda params: params.update(geometry_aware=None),
        ["geometry_aware = null"],
    ),
    "reach, no baseline": (
        "beos_bridge",
        lambda params: params.update(scalings={"fsf": {"networks": ["r = 0"]}}),
        ["scalings = ['fsf']", "nothing to compare", "none"],
    ),
    "reach, one pattern": (
        "beos_bridge",
        lambda params: [runs.update(networks=["r = 2"]) for runs in params["scalings"].values()],
        ["networks = ['r = 2']", "nothing to compare"],
    ),
    "reach, two that differ in both": (
        "beos_bridge",
        lambda params: params.update(scalings=NO_PAIR),
        ["nothing to compare"],
    ),
    "samples without networks": (
        "fsf_fig1b",
        lambda params: params.update(depths=[10, 20]),
        ["sampler_depths = 30", "from 10 to 20"],
    ),
    "no branches in a table": ("fsf_table1", lambda params: params.update(branch_scale="0"), ["branch_scale = '0'"]),
    "no branches, by a law": ("fsf_table2", lambda params: params.update(branch_scale="0/L"), ["branch_scale = '0/L'"]),
    "angles of the first layer": (
        "fsf_theory",
        lambda params: params["wide_mlp"].update(depth=5),
        ["greater than or equal to 6"],
    ),
    "features that do not move": (
        "fsf_training",
        lambda params: params.update(parameterization="RANDOM_FEATURES"),
        ["parameterization = RANDOM_FEATURES", "do not move"],
    ),
    "two models of one name": (
        "fsf_training",
        lambda params: params["models"].update({"mlp": params["models"]["MLP"]}),
        ["models = 'mlp'", "'MLP'", "fsf_training_mlp"],
    ),
    "two runs of one name": (
        "sc_sharpness_methods",
        lambda params: params["runs"].update({"MLP ": params["runs"]["MLP"]}),
        ["runs = 'MLP '", "'MLP'", "sc_sharpness_methods_mlp"],
    ),
    "a run with a bar": (
        "sc_sharpness_methods",
        lambda params: renamed(params, "runs", "MLP", "a | MLP"),
        ["runs = 'a | MLP'"],
    ),
    "checks of muP without sgd": (
        "sc_fig28",
        lambda params: params.update(learning_rates={"adam": 0.001}),
        ["learning_rates = ['adam']", "must hold sgd"],
    ),
    "forms without adam": (
        "sc_table1",
        lambda params: params["forms"].update(learning_rates={"sgd": 0.2, "adamw": 0.01}),
        ["forms.learning_rates = ['sgd', 'adamw']", "must hold adam"],
    ),
    "forms without sgd": (
        "sc_table1",
        lambda params: params["forms"].update(learning_rates={"adam": 0.01}),
        ["forms.learning_rates = ['adam']", "must hold sgd"],
    ),
    "nothing with two forms": (
        "sc_table1",
        lambda params: params.update(parameterizations=["SP", "RANDOM_FEATURES"]),
        ["parameterizations = ['SP', 'RANDOM_FEATURES']", "NTP, MUP, DEPTH_MUP"],
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_must_fail_later_is_refused(fault):
    name, edit, words = REFUSED[fault]
    assert_refused(name, edit, *words)


@pytest.mark.parametrize("name", MAPS)
def test_a_label_in_a_map_holds_no_bar(name):
    old = first(SMOKE.params(name)["networks"])
    assert_refused(name, lambda params: renamed(params, "networks", old, "a | b"), "networks = 'a | b'", "' | '")
    assert changed(name, lambda params: renamed(params, "networks", old, "a, b"))


ACCEPTED = {
    "only NTP has no form with adam": (
        "sc_table1",
        lambda params: (params.update(parameterizations=["NTP"]), params["forms"].update(learning_rates={"sgd": 0.2})),
    ),
    "a scaling beside none": (
        "beos_bridge",
        lambda params: params.update(scalings={"none": {"networks": ["r = 0"]}, "fsf": {"networks": ["r = 0"]}}),
    ),
    "two patterns": ("beos_bridge", lambda params: params.update(scalings={"fsf": {"networks": ["r = 0", "r = 2"]}})),
    "one scaling with a kappa that is shown": (
        "beos_fig2",
        lambda params: params["scalings"]["none"].update(kappas=[3.0]),
    ),
    "no constant run beside geometry-aware ones": ("beos_fig5", lambda params: params.update(scalings={})),
    "one network over the depth": ("sc_bridge", lambda params: without(params, "networks", PAIR, *EVERY[:3])),
    "more quantities": ("sc_fig01", lambda params: params["curvature"]["quantities"].append("hessian_trace")),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_can_be_drawn_is_accepted(case):
    assert changed(*ACCEPTED[case])


# --- labels -----------------------------------------------------------------------------------------------------------


def test_labels_and_the_names_of_their_files():
    check_labels("networks", ["N=5", "a|b", "a: b", ""])
    with pytest.raises(ValueError, match=r"networks = 'N=5': a label must not begin with 'N=' or 'step '"):
        check_labels("networks", ["N=5"], "N=", "step ")
    check_file_names("runs", {"a": "x", "b": "y"})
    with pytest.raises(ValueError, match="runs = 'b': its files would be those of 'a', x; rename one"):
        check_file_names("runs", {"a": "x", "b": "x"})
