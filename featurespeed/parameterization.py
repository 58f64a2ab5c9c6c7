"""Parameterizations as one table of numbers by layer role (arXiv:2402.17457, Table 1; arXiv:2203.03466, Table 8).

A network ``h_1 = a_in W_in x``, ``h_{l+1} = tau h_l + r a_hid W_l phi(h_l)``, ``f = a_out W_out phi(h_L)`` has, for
each role of a weight matrix, a multiplier ``a``, a standard deviation ``b`` of its Gaussian initialisation and a factor
``c`` on the base learning rate; residual branches carry one more multiplier ``r`` a block. A parameterization says how
these depend on the width ``N``, the depth ``L`` (residual blocks) and the input dimension ``D`` (inputs of one unit of
the first layer: entries of a vector, 9 pixels of each channel). Nothing else knows a parameterization: models and
optimizers multiply what stands here.

Where the paper writes ``N``, a ConvNet leaves open what is counted: at a hidden layer or the readout the inputs of a
unit may be its channels or all that it sees, and ``gamma = gamma_0 sqrt(N)`` may count channels or the inputs of the
readout (:mod:`featurespeed.models.spec`). Both numbers can be given; each is the width where it is not.

Both published forms are given, and train alike. ``multipliers`` has unit variances and every size in the multipliers;
``rescaled`` has variances 1/fan_in and multipliers of 1, except the readout's 1/N. They are one network with
``a -> a s``, ``b -> b / s``, the learning rate ``-> c / s^2`` for SGD and ``-> c / s`` for Adam, whose epsilon goes
``-> s epsilon``; ``s`` is ``sqrt(D)`` at the input, ``sqrt(N)`` at hidden layers, and 1 at the readout of muP.

Adam's learning rates are those of the table, or those of the code of the second paper's authors: one for all layers
(:data:`LayerRates`), with or without a factor ``1/sqrt(L)``. Multipliers, initialisation and epsilon are the same.

What is no matrix but a vector of the width (a bias, the gain of a normalisation, embeddings of tokens or of positions)
scales like an input layer of which a unit sees one number, ``D = 1``; in a residual branch it carries the depth as the
hidden layers there do (arXiv:2505.01618, Table 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal


class Parameterization(StrEnum):
    """How multipliers, initialisation and learning rates depend on the sizes."""

    SP = "SP"
    NTP = "NTP"
    MUP = "MUP"
    DEPTH_MUP = "DEPTH_MUP"
    RANDOM_FEATURES = "RANDOM_FEATURES"
    COMPLETE_P = "COMPLETE_P"
    U_MUP = "U_MUP"

    @property
    def label(self) -> str:
        """Name in figures."""
        return _LABELS[self]


_LABELS = {
    Parameterization.SP: "SP",
    Parameterization.NTP: "NTP",
    Parameterization.MUP: "μP",
    Parameterization.DEPTH_MUP: "Depth-μP",
    Parameterization.RANDOM_FEATURES: "random features",
    Parameterization.COMPLETE_P: "CompleteP",
    Parameterization.U_MUP: "u-μP",
}


class OptimizerName(StrEnum):
    """Optimizers that the table covers; Adam and AdamW share its rows."""

    SGD = "sgd"
    ADAM = "adam"
    ADAMW = "adamw"


class Form(StrEnum):
    """The two published forms of one parameterization."""

    MULTIPLIERS = "multipliers"
    RESCALED = "rescaled"


class LayerRole(StrEnum):
    """Role of a weight matrix: it fixes how the matrix scales."""

    INPUT = "input"
    HIDDEN = "hidden"
    READOUT = "readout"


#: Adam's factors on the learning rate: each layer its own (``table``), or ``gamma^2`` for all of them (``common``).
LayerRates = Literal["table", "common"]


class ParameterizationError(ValueError):
    """An optimizer or a model that a parameterization does not cover; ``str(error)`` is one line with the remedy."""


@dataclass(frozen=True)
class PowerLaw:
    """``constant * m^p_m * L^p_L * d^p_d * k^p_k``, and ``beta^p_beta`` or ``gamma^p_gamma`` where a branch scale or
    the factor that divides the output enters.
    """

    constant: float = 1.0
    m: float = 0.0
    L: float = 0.0
    d: float = 0.0
    k: float = 0.0
    beta: float = 0.0
    gamma: float = 0.0

    def __call__(
        self,
        width: int,
        depth: int,
        input_dim: int,
        output_dim: int,
        branch_scale: float = 1.0,
        gamma: float = 1.0,
    ) -> float:
        """Value at the given sizes."""
        logs = (
            self.m * math.log(width),
            self.L * math.log(depth),
            self.d * math.log(input_dim),
            self.k * math.log(output_dim),
            self.beta * math.log(branch_scale) if self.beta else 0.0,
            self.gamma * math.log(gamma),
        )
        return self.constant * math.exp(sum(logs))

    def exponents(self, branch_scale_exponent_of_depth: float = 0.0) -> dict[str, float]:
        """Exponents of ``m, L, d, k`` when ``beta`` is proportional to ``L**branch_scale_exponent_of_depth``, and
        ``gamma`` to ``sqrt(m)``.
        """
        in_depth = self.L + self.beta * branch_scale_exponent_of_depth
        return {"m": self.m + 0.5 * self.gamma, "L": in_depth, "d": self.d, "k": self.k}


def _power(m: float = 0.0, L: float = 0.0, d: float = 0.0, gamma: float = 0.0) -> PowerLaw:
    return PowerLaw(m=m, L=L, d=d, gamma=gamma)


_ONE = PowerLaw()
_NEVER = PowerLaw(constant=0.0)


@dataclass(frozen=True)
class _Rules:
    """One parameterization, in the form ``multipliers``: a power law for each role (input, hidden, readout), in which
    ``m`` is what a unit of this matrix sees, and ``gamma = sqrt(N)``.

    ``sgd`` and ``adam`` are the factors on the learning rate (None: not stated). ``epsilon`` is how the entries of the
    gradient scale, and so what Adam's epsilon must be multiplied with to stay as small beside them at every size.
    ``rescaling`` is the ``s`` that leads to the form ``rescaled``; ``branch`` multiplies residual branches.
    """

    multiplier: tuple[PowerLaw, PowerLaw, PowerLaw]
    init_std: tuple[PowerLaw, PowerLaw, PowerLaw]
    sgd: tuple[PowerLaw, PowerLaw, PowerLaw] | None
    adam: tuple[PowerLaw, PowerLaw, PowerLaw] | None
    epsilon: tuple[PowerLaw, PowerLaw, PowerLaw]
    rescaling: tuple[PowerLaw, PowerLaw, PowerLaw]
    branch: PowerLaw = _ONE


_UNIT = (_ONE, _ONE, _ONE)
_FAN_IN = (_power(d=-0.5), _power(m=-0.5), _power(m=-0.5))
_MUP_MULTIPLIERS = (_power(d=-0.5), _power(m=-0.5), _power(m=-0.5, gamma=-1))
_MUP_EPSILON = (_power(d=-0.5, gamma=-2), _power(m=-0.5, gamma=-2), _power(m=-0.5, gamma=-1))
_MUP_SGD = (_power(gamma=2),) * 3
_MUP_RESCALING = (_power(d=0.5), _power(m=0.5), _ONE)
_NTP_RESCALING = (_power(d=0.5), _power(m=0.5), _power(m=0.5))

#: Table 1 of arXiv:2402.17457, rebuilt from its text (the image of the table was not available).
_TABLE: Mapping[Parameterization, _Rules] = MappingProxyType(
    {
        # Variances 1/D, 1/N, 1/N and one learning rate; App. C.3.
        Parameterization.SP: _Rules(_UNIT, _FAN_IN, _UNIT, _UNIT, _UNIT, _UNIT),
        # gamma = gamma_0, alpha = 0; learning rate eta_0 gamma_0^2 everywhere. Stated for SGD only.
        Parameterization.NTP: _Rules(_FAN_IN, _UNIT, _UNIT, None, _UNIT, _NTP_RESCALING),
        # gamma = gamma_0 sqrt(N), alpha = 0; Adam: eta_0, eta_0 / sqrt(N), eta_0.
        Parameterization.MUP: _Rules(
            _MUP_MULTIPLIERS, _UNIT, _MUP_SGD, (_ONE, _power(m=-0.5), _ONE), _MUP_EPSILON, _MUP_RESCALING
        ),
        # muP with alpha = 1/2; SGD needs no factor in L, Adam's hidden layers take eta_0 / sqrt(N L).
        Parameterization.DEPTH_MUP: _Rules(
            _MUP_MULTIPLIERS,
            _UNIT,
            _MUP_SGD,
            (_ONE, _power(m=-0.5, L=-0.5), _ONE),
            (_power(d=-0.5, gamma=-2), _power(m=-0.5, L=-0.5, gamma=-2), _power(m=-0.5, gamma=-1)),
            _MUP_RESCALING,
            branch=_power(L=-0.5),
        ),
        # The network of NTP with gamma = 1; only the readout learns.
        Parameterization.RANDOM_FEATURES: _Rules(_FAN_IN, _UNIT, (_NEVER, _NEVER, _ONE), None, _UNIT, _NTP_RESCALING),
        # alpha = 1: Adam's hidden layers take eta_0 / sqrt(N) at any depth (arXiv:2505.01618, Table 1); for SGD counted
        # here in the same way: the gradient of a branch carries 1/L, its rate must make up for it.
        Parameterization.COMPLETE_P: _Rules(
            _MUP_MULTIPLIERS,
            _UNIT,
            (_power(gamma=2), _power(gamma=2, L=1), _power(gamma=2)),
            (_ONE, _power(m=-0.5), _ONE),
            (_power(d=-0.5, gamma=-2), _power(m=-0.5, L=-1, gamma=-2), _power(m=-0.5, gamma=-1)),
            _MUP_RESCALING,
            branch=_power(L=-1),
        ),
        # Depth-muP, but for the embedding, whose rate falls with the width; Adam only (arXiv:2407.17465, Table 2).
        Parameterization.U_MUP: _Rules(
            _MUP_MULTIPLIERS,
            _UNIT,
            None,
            (_power(m=-0.5), _power(m=-0.5, L=-0.5), _ONE),
            (_power(d=-0.5, gamma=-2), _power(m=-0.5, L=-0.5, gamma=-2), _power(m=-0.5, gamma=-1)),
            _MUP_RESCALING,
            branch=_power(L=-0.5),
        ),
    }
)
_ROLES = tuple(LayerRole)
_HAS_GAMMA = (
    Parameterization.NTP,
    Parameterization.MUP,
    Parameterization.DEPTH_MUP,
    Parameterization.COMPLETE_P,
    Parameterization.U_MUP,
)

#: Adam's one factor for all layers in the authors' code, but for its ``gamma_0^2``, and where there is one.
_COMMON_RATES = (_power(gamma=2),) * 3
_HAS_COMMON_RATES = (Parameterization.MUP, Parameterization.DEPTH_MUP)

#: Exponents of L in Adam's factors that carry ``1/sqrt(L)``: those of Depth-muP, and those of the authors' code.
_DEPTH_EXPONENTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"table": (0.0, -0.5, 0.0), "common": (-0.5, -0.5, -0.5)}
)


@dataclass(frozen=True)
class ScalingRule:
    """What one weight matrix gets.

    Attributes:
        init_std: standard deviation of its Gaussian initialisation.
        multiplier: factor on its output.
        lr_scale: factor on the base learning rate; 0 where the layer does not learn.
        epsilon_scale: factor on Adam's epsilon; 1 for SGD.
    """

    init_std: float
    multiplier: float
    lr_scale: float
    epsilon_scale: float = 1.0


def covered_optimizers(parameterization: Parameterization) -> tuple[OptimizerName, ...]:
    """Optimizers for which the parameterization states learning rates."""
    rules = _TABLE[Parameterization(parameterization)]
    stated = {OptimizerName.SGD: rules.sgd}
    return tuple(name for name in OptimizerName if stated.get(name, rules.adam) is not None)


def check_covered(parameterization: Parameterization, optimizer: OptimizerName) -> None:
    """Raise :class:`ParameterizationError`, with the remedy, if the table has no rule for this pair."""
    covered = covered_optimizers(parameterization)
    if optimizer not in covered:
        others = ", ".join(name for name in Parameterization if optimizer in covered_optimizers(name))
        raise ParameterizationError(
            f"optimizer = {str(optimizer)!r}: {parameterization} is stated for {' and '.join(covered)} only;"
            f" use {' or '.join(covered)}, or one of {others} with {optimizer}"
        )


def check_adaptive(optimizer: OptimizerName, layer_rates: LayerRates, depth_rates: bool | None) -> None:
    """Raise :class:`ParameterizationError`, with the remedy, if SGD is given one of the choices that Adam has."""
    if optimizer != OptimizerName.SGD:
        return
    remedy = "leave it out, or use adam or adamw"
    if layer_rates != "table":
        raise ParameterizationError(f"layer_rates = {layer_rates!r}: sgd has 'table' alone; {remedy}")
    if depth_rates is not None:
        raise ParameterizationError(
            f"depth_rates = {str(depth_rates).lower()}: no rate of sgd carries the depth; {remedy}"
        )


def _check_choices(
    parameterization: Parameterization,
    optimizer: OptimizerName,
    gamma0: float,
    layer_rates: LayerRates,
    depth_rates: bool | None,
) -> None:
    check_covered(parameterization, optimizer)
    check_adaptive(optimizer, layer_rates, depth_rates)
    if gamma0 != 1.0 and parameterization not in _HAS_GAMMA:
        raise ParameterizationError(
            f"gamma0 = {gamma0}: {parameterization} has no gamma_0; use {', '.join(_HAS_GAMMA)} or leave gamma0 at 1"
        )
    if layer_rates == "common" and parameterization not in _HAS_COMMON_RATES:
        fault = "is not stated with it" if parameterization in _HAS_GAMMA else "has no gamma"
        raise ParameterizationError(
            f"layer_rates = 'common': the common rate is gamma^2, and {parameterization} {fault};"
            f" use {' or '.join(_HAS_COMMON_RATES)}, or leave layer_rates at 'table'"
        )


def scaling_rule(
    parameterization: Parameterization,
    role: LayerRole,
    width: int,
    depth: int = 1,
    *,
    input_dim: int = 1,
    optimizer: OptimizerName = OptimizerName.SGD,
    form: Form = Form.MULTIPLIERS,
    gamma0: float = 1.0,
    fan_in: int | None = None,
    gamma_fan_in: int | None = None,
    counted: bool = True,
    vector: bool = False,
    layer_rates: LayerRates = "table",
    depth_rates: bool | None = None,
) -> ScalingRule:
    """Initialisation, multiplier and learning rate of one weight matrix, or of a vector of the width.

    Args:
        parameterization, role: the cell of the table.
        width: ``N``, hidden units or channels.
        depth: ``L``, residual blocks; matters to Adam only, and there to DEPTH_MUP and ``depth_rates`` (see
            :func:`branch_multiplier`).
        input_dim: ``D``, inputs of one unit of the first layer: entries of a vector, 9 times the channels for a
            3x3 convolution.
        optimizer: decides on the learning rate.
        form: ``multipliers`` (arXiv:2402.17457, Eq. 1 and Table 1) or ``rescaled`` (arXiv:2203.03466, Table 8).
        gamma0: ``gamma_0``, divides the output of NTP and muP; SGD's learning rates, and common ones of Adam, carry
            ``gamma_0^2``.
        fan_in: what a unit of a hidden layer or of the readout sees, as multipliers and variances count it; the width
            if None.
        gamma_fan_in: ``N`` in ``gamma = gamma_0 sqrt(N)`` of (Depth-)muP; the width if None.
        counted: whether ``L`` counts the layer. One that it does not, such as a convolution between two blocks, knows
            ``L`` only from common rates.
        vector: whether it is a bias, a gain or an embedding: like an input layer with ``D = 1``, whatever the role, and
            with the depth of a hidden layer if it is counted.
        layer_rates: Adam's factors, those of the table or ``gamma^2`` for all layers.
        depth_rates: whether Adam's factors carry ``1/sqrt(L)``: those of hidden layers, or all if they are common.
            None: as the table has it; common ones do not.

    Raises:
        ParameterizationError: the table does not cover the optimizer, or has no ``gamma_0``, or the choices of Adam's
            rates do not go with the others.
    """
    parameterization, optimizer = Parameterization(parameterization), OptimizerName(optimizer)
    _check_choices(parameterization, optimizer, gamma0, layer_rates, depth_rates)
    rules, index = _TABLE[parameterization], _ROLES.index(LayerRole(role))
    adaptive, common = optimizer is not OptimizerName.SGD, layer_rates == "common"
    gamma = math.sqrt(width if gamma_fan_in is None else gamma_fan_in)

    def value(laws: tuple[PowerLaw, PowerLaw, PowerLaw], of_all_layers: bool = False) -> float:
        own_depth = depth if counted or of_all_layers else 1
        law = replace(laws[0], d=0.0, L=laws[1].L) if vector else laws[index]
        seen = width if fan_in is None or index == 0 or vector else fan_in  # an input layer's is input_dim
        return law(seen, own_depth, input_dim, 1, gamma=gamma)

    shift = value(rules.rescaling) if form == Form.RESCALED else 1.0
    rates = _adam_rates(rules, layer_rates, depth_rates) if adaptive else rules.sgd
    rate = value(rates, of_all_layers=common) * (gamma0**2 if common or not adaptive else 1.0)
    rule = ScalingRule(
        init_std=value(rules.init_std) / shift,
        multiplier=value(rules.multiplier) * shift,
        lr_scale=rate / (shift if adaptive else shift**2),
        epsilon_scale=value(rules.epsilon) * shift / gamma0 if adaptive else 1.0,
    )
    is_readout = role == LayerRole.READOUT and not vector
    return replace(rule, multiplier=rule.multiplier / gamma0) if is_readout else rule


def _adam_rates(
    rules: _Rules, layer_rates: LayerRates, depth_rates: bool | None
) -> tuple[PowerLaw, PowerLaw, PowerLaw]:
    """Laws of Adam's factors; epsilon has none of these choices, because gradients do not depend on the rates."""
    laws = _COMMON_RATES if layer_rates == "common" else rules.adam
    if depth_rates is None:
        return laws
    exponents = _DEPTH_EXPONENTS[layer_rates] if depth_rates else (0.0, 0.0, 0.0)
    return tuple(replace(law, L=exponent) for law, exponent in zip(laws, exponents, strict=True))


def branch_multiplier(parameterization: Parameterization, depth: int) -> float:
    """Factor on every residual branch of a network of ``depth`` blocks: ``L^-alpha`` (:func:`branch_exponent`)."""
    return depth ** -branch_exponent(parameterization)


def branch_exponent(parameterization: Parameterization) -> float:
    """``alpha``: 1/2 for Depth-muP and u-muP, 1 for CompleteP, and 0 for those that know no branches."""
    return -_TABLE[Parameterization(parameterization)].branch.L


def attention_scale(parameterization: Parameterization, head_dim: int) -> float:
    """Factor on the products of queries and keys of ``head_dim`` numbers: ``1/d_head`` where features move with the
    width as in muP (arXiv:2203.03466, Sec. 4), because queries and keys align, and else the usual ``1/sqrt(d_head)``.
    """
    learns_features = Parameterization(parameterization) in _LEARNS_FEATURES
    return 1.0 / head_dim if learns_features else head_dim**-0.5


_LEARNS_FEATURES = tuple(name for name in _HAS_GAMMA if name != Parameterization.NTP)


# --- what the table implies -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WidthExponents:
    """Exponents in the width ``N`` of what a coordinate check measures at one layer; None: the quantity is exactly 0.

    Attributes:
        role: of the layer.
        activation: rms of its output ``a W_0 x_0`` at initialisation.
        effective_update: rms of ``a (W_1 - W_0) x_1``, after one step.
        propagating_update: rms of ``a W_0 (x_1 - x_0)``, after one step.
    """

    role: LayerRole
    activation: float
    effective_update: float | None
    propagating_update: float | None

    @property
    def update(self) -> float | None:
        """Exponent of the sum of both updates: the larger one."""
        return max((e for e in (self.effective_update, self.propagating_update) if e is not None), default=None)


def width_exponents(
    parameterization: Parameterization, optimizer: OptimizerName, layers: int
) -> tuple[WidthExponents, ...]:
    """Exponents of a chain of ``layers`` weight matrices (input, hidden ..., readout), counted from the table.

    The counting is that of arXiv:2011.14522 (Sec. 3): a sum over N terms grows as N where the terms are aligned (a
    gradient step with its own input; the readout with the features that it has moved) and as sqrt(N) where they are
    independent. It holds for the first step, from a loss whose derivative by the outputs does not depend on N.

    Raises:
        ParameterizationError: the table does not cover the optimizer.
        ValueError: fewer than two layers.
    """
    check_covered(parameterization, optimizer)
    if layers < 2:
        raise ValueError(f"layers = {layers}: at least 2 are needed (input, readout)")
    rules = _TABLE[Parameterization(parameterization)]
    rates = rules.sgd if optimizer == OptimizerName.SGD else rules.adam
    a, b, c = ([law.exponents()["m"] for law in laws] for laws in (rules.multiplier, rules.init_std, rates))
    backward = a[2] + b[2]  # entries of dLoss/dh; the hidden layers of every parameterization leave this exponent alone
    gradient = (a[0] + backward, a[1] + backward, a[2])
    found: list[WidthExponents] = []
    moved: float | None = None  # exponent of the change of the layer's input
    for role in (0, *[1] * (layers - 2), 2):
        own = gradient[role] if optimizer == OptimizerName.SGD else 0.0  # Adam's steps have the size of the rate
        effective = None if rates[role].constant == 0 else a[role] + c[role] + own + (0.0 if role == 0 else 1.0)
        propagating = None if moved is None else moved + a[role] + b[role] + (1.0 if role == 2 else 0.5)
        activation = a[role] + b[role] + (0.0 if role == 0 else 0.5)
        found.append(WidthExponents(_ROLES[role], activation, effective, propagating))
        moved = found[-1].update
    return tuple(found)


#: Exponents in the depth ``L`` of a residual network under Depth-muP, after one step of SGD or Adam, counted from its
#: rules: the features move by an amount that does not depend on L, to which each of the L branches adds 1/L. A branch
#: is ``L^-1/2`` times its last layer's output, whose effective update therefore carries ``L^-1/2`` (arXiv:2310.02244).
DEPTH_MUP_EXPONENTS: Mapping[str, float] = MappingProxyType(
    {"feature_update": 0.0, "effective_update_hidden": -0.5, "effective_update_readout": 0.0}
)
