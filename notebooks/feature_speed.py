# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The feature speed formula, measured step by step
#
# A deep network computes features layer by layer, `f_l = T_l(f_{l-1}, W_l)` for `l = 1, ..., L`. One step of
# gradient descent moves all weights a little, and so it moves every feature. How fast? Chizat and Netrapalli
# ([arXiv:2311.18718](https://arxiv.org/abs/2311.18718), Theorem 2.1) answer with an identity:
#
#     speed of f_v  ×  cos θ_v  ×  |b_v|   =   loss decay due to the layers up to v
#
# | symbol | meaning |
# |---|---|
# | `b_v` | the backward pass, `dLoss/df_v`: the direction in which the loss rises fastest |
# | `df_v/dt` | the velocity of `f_v` when every layer follows `dW_l/dt = -η_l G_l`; `G_l` is the layer's gradient |
# | `θ_v` | the backward-feature angle: between `df_v/dt` and `-b_v` |
# | loss decay | sum over the layers `l ≤ v` of `η_l` times the squared norm of `G_l` |
#
# This notebook measures each of the four on a network small enough to write down by hand, then follows what the
# angle does with depth, with residual branches and with the scaling of the readout. Everything is seeded; the
# statements are checked by `assert`, and a cell whose check fails stops the notebook.

# %%
import math
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.func import jvp

from featurespeed.models.mlp import build_residual_mlp
from featurespeed.probes import measure_feature_speed
from featurespeed.probes.residual_mlp import SeriesProbe, draw_dense_network
from featurespeed.probes.sampler import Network, sample_networks
from featurespeed.theory import cos_bfa_recursion, phi_limit

torch.set_default_dtype(torch.float64)  # the identities below hold to rounding, so let rounding be small
build = partial(build_residual_mlp, dtype=torch.float64)
BLUE, RED, GREEN, PURPLE, INK, GREY = "#0072b2", "#d55e00", "#009e73", "#aa5599", "#222222", "#9a9a9a"
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "legend.frameon": False,
    }
)


def label(ax, x, y, title="", **legend):
    """Name both axes and draw the legend."""
    ax.set(xlabel=x, ylabel=y, title=title)
    ax.legend(**legend)


def angle_axis(ax):
    """Angles from 0 to π/2."""
    ax.set_yticks([0, math.pi / 8, math.pi / 4, 3 * math.pi / 8, math.pi / 2], ["0", "π/8", "π/4", "3π/8", "π/2"])
    ax.axhline(math.pi / 2, color=GREY, linewidth=0.7)


# %% [markdown]
# ## 1. A small network, by hand
#
# Depth L = 12, width m = 64, one input `x`. The first layer embeds, the last one reads out; between them stand 10
# residual blocks with branch scale β, and `a² = 1 - β²`, so that the size of the signal does not change with depth:
#
#     f_1 = W_1 x        f_l = a f_{l-1} + β W_l relu(f_{l-1})        f_L = W_L f_{L-1}
#
# β = 1 would be a plain multi-layer perceptron (MLP). As in the paper's figures the embedding and the readout stay
# fixed.

# %%
L, m, d = 12, 64, 10
beta = 1 / math.sqrt(L)
a = math.sqrt(1 - beta**2)

net = build(m, L, input_dim=d, branch_scale=beta, generator=torch.Generator().manual_seed(0))
net[0].requires_grad_(False)
net[-1].requires_grad_(False)
data = torch.Generator().manual_seed(1)
x = torch.randn(1, d, generator=data) / math.sqrt(d)
y = torch.randn(1, 1, generator=data)
W = [layer.weight.detach() for layer in net]  # W[l - 1] belongs to layer l


def features(W, x):
    """[f_1, ..., f_L] of the input as a function of the weights."""
    f = [x @ W[0].T]
    for W_l in W[1:-1]:
        f.append(a * f[-1] + beta * torch.relu(f[-1]) @ W_l.T)
    return [*f, f[-1] @ W[-1].T]


f = features(W, x)
assert torch.allclose(f[-1], net(x), rtol=1e-12)

# %% [markdown]
# **The backward pass.** With the loss `(f_L - y)²/2` it starts at `b_L = f_L - y` and goes down, through the
# transposed weights and the derivative of the ReLU.

# %%
b = [f[-1] - y]
b.append(b[0] @ W[-1])
for v in range(L - 1, 1, -1):  # from b_v to b_{v-1}
    b.append(a * b[-1] + beta * (f[v - 2] > 0) * (b[-1] @ W[v - 1]))
b.reverse()  # b[v - 1] belongs to layer v

# %% [markdown]
# **The gradients** `G_l = β b_lᵀ relu(f_{l-1})`, checked against automatic differentiation, and the **learning
# rates**. We take `η_l = 1/(L |G_l|²)`: every trained layer then contributes the same amount, 1/L, to the decay of
# the loss.

# %%
G = [beta * b[v - 1].T @ torch.relu(f[v - 2]) for v in range(2, L)]  # layers 2, ..., L-1

automatic = torch.autograd.grad(((net(x) - y) ** 2 / 2).sum(), [layer.weight for layer in net[1:-1]])
assert all(torch.allclose(mine, other, rtol=1e-10) for mine, other in zip(G, automatic, strict=True))

eta = [1 / (L * G_l.square().sum()) for G_l in G]

# %% [markdown]
# **The feature velocity.** A step of size dt and a difference would do, and this is how the paper does it. But the
# velocity is a directional derivative of the features in the direction in which the weights move, and forward-mode
# differentiation gives it exactly, without any step size:

# %%
W_dot = [torch.zeros_like(W[0]), *(-eta_l * G_l for eta_l, G_l in zip(eta, G, strict=True)), torch.zeros_like(W[-1])]
_, f_dot = jvp(lambda weights: features(weights, x), (W,), (W_dot,))

# %% [markdown]
# **The formula.** Why it holds is one line of chain rule. `f_v` depends on the weights of the layers l ≤ v, and the
# loss depends on these weights through `f_v` alone, so `⟨df_v/dt, b_v⟩ = Σ ⟨dW_l/dt, G_l⟩ = -Σ η_l |G_l|²`. Write
# the left-hand side as speed times `|b_v|` times a cosine and you have the theorem. Note the sign: the angle is
# taken between `df_v/dt` and **minus** `b_v`, so it lies below π/2 whenever the loss goes down.

# %%
speed = torch.stack([v.norm() for v in f_dot])
backward = torch.stack([v.norm() for v in b])
cos = torch.stack([-(u * v).sum() / (u.norm() * v.norm()) for u, v in zip(f_dot, b, strict=True)])
decay = torch.tensor([max(0, min(v, L - 1) - 1) / L for v in range(1, L + 1)])  # layers 2, ..., L-1 give 1/L each

layers = np.arange(1, L + 1)
pd.DataFrame(
    {"speed": speed, "cos θ": cos, "|b|": backward, "product": speed * cos * backward, "loss decay": decay},
    index=layers,
).rename_axis("layer v").round(6)

# %% [markdown]
# Layer 1 does not move, so its angle is 0/0. Everywhere else the product is the loss decay, to the last digits:

# %%
error = (speed * cos * backward / decay - 1).abs()[1:]
assert error.max() < 1e-12
print(f"largest relative error of the formula: {error.max():.1e}")

fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
for values, name, color in [(speed, "speed |df/dt|", BLUE), (cos, "cos θ", RED), (backward, "|b|", GREEN)]:
    left.semilogy(layers[1:], values[1:], "o-", color=color, label=name, markersize=4)
label(left, "layer v", "value", "three factors ...")
right.bar(layers[1:], decay[1:], color="#d8d8d8", label="loss decay up to v")
right.plot(layers[1:], (speed * cos * backward)[1:], "o", color=INK, label="product of the three")
label(right, "layer v", "loss decay per unit of time", "... and their product")

# %% [markdown]
# ## 2. The same in one call
#
# `measure_feature_speed` does all of this for any chain of modules. Parameters that do not require a gradient do
# not move.

# %%


def half_square(output, target):
    """(f_L - y)²/2."""
    return ((output - target) ** 2).sum() / 2


result = measure_feature_speed(net, half_square, (x, y))

assert torch.allclose(result.feature_speed, speed, rtol=1e-10)
assert torch.allclose(result.cos[1:], cos[1:], rtol=1e-10)
assert torch.allclose(result.loss_decay, decay, rtol=1e-10)
assert result.formula_error[1:].max() < 1e-12

# %% [markdown]
# The identity holds for every choice of learning rates and at any time of training, not only at initialisation. Let
# us check: other learning rates, 20 steps of gradient descent, the formula measured before each step.

# %%
trained = build(m, L, input_dim=d, branch_scale=beta, generator=torch.Generator().manual_seed(2))
optimizer = torch.optim.SGD(trained.parameters(), lr=0.05)
rates = [0.05] * L  # the embedding and the readout are trained as well
losses, errors = [], []
for _ in range(20):
    errors.append(float(measure_feature_speed(trained, half_square, (x, y), rates).formula_error.max()))
    optimizer.zero_grad()
    loss = half_square(trained(x), y)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

assert max(errors) < 1e-10 and losses[-1] < losses[0] / 2
print(f"loss {losses[0]:.3f} -> {losses[-1]:.4f}; largest error of the formula on the way: {max(errors):.1e}")

# %% [markdown]
# ## 3. The angle along the layers
#
# The formula turns the question "how fast do features move" into "how large is the angle". At a fixed decay of the
# loss and a fixed backward norm, an angle close to π/2 means fast features. We follow it through networks of depth
# 60, with five draws for each branch scale. The dashed lines are our infinite-width recursion (`docs/theory.md`),
# computed without drawing a network.

# %%
L, m = 60, 128
branch_scales = {"β = 1 (MLP)": 1.0, "β = 1/√L": 1 / math.sqrt(L), "β = 1/L": 1 / L}
angles = {}
for name, scale in branch_scales.items():
    draws = []
    for seed in range(5):
        deep = build(m, L, input_dim=d, branch_scale=scale, generator=torch.Generator().manual_seed(seed))
        deep[0].requires_grad_(False)
        deep[-1].requires_grad_(False)
        draws.append(measure_feature_speed(deep, half_square, (x, y)).angle[1:-1])
    angles[name] = torch.stack(draws)

fig, ax = plt.subplots(figsize=(7, 3.8))
hidden = np.arange(2, L)
for (name, scale), color in zip(branch_scales.items(), [RED, BLUE, PURPLE], strict=True):
    ax.plot(hidden, angles[name].T, "o", color=color, markersize=2.5, alpha=0.5, markeredgewidth=0)
    ax.plot([], [], "o", color=color, markersize=4, label=name)
    ax.plot(hidden, np.arccos(cos_bfa_recursion(L, scale)), color=INK, linestyle=(0, (4, 2)), linewidth=1)
ax.plot([], [], color=INK, linestyle=(0, (4, 2)), linewidth=1, label="infinite width")
angle_axis(ax)
label(ax, "layer v", "angle θ [rad]", loc="upper left", bbox_to_anchor=(1, 0.9))

for name, scale in branch_scales.items():
    theory = float(np.arccos(cos_bfa_recursion(L, scale)[-1]))
    assert abs(float(angles[name][:, -1].mean()) - theory) < 0.15, name

# %% [markdown]
# In the MLP the angle goes to π/2 (cos θ falls like v^(-1/2)). With β = 1/√L it settles at a value in between,
# which does not depend on the depth; with β = 1/L it stays close to 0 and the features follow the backward pass.
#
# ## 4. What a finite step costs
#
# The paper takes a step dt and divides the difference of the features by it. Here is how far this estimate is from
# the exact velocity at the last hidden layer of the network of section 1, in double and in single precision.


# %%
def finite_step_error(dt, dtype):
    """Relative error of (f(W + dt dW/dt) - f(W))/dt at f_{L-1}, computed in `dtype`."""
    start = [w.to(dtype) for w in W]
    moved = [w + dt * w_dot.to(dtype) for w, w_dot in zip(start, W_dot, strict=True)]
    estimate = (features(moved, x.to(dtype))[-2] - features(start, x.to(dtype))[-2]) / dt
    return float((estimate - f_dot[-2]).norm() / f_dot[-2].norm())


steps = np.logspace(-10, 0, 41)
double = np.array([finite_step_error(dt, torch.float64) for dt in steps])
single = np.array([finite_step_error(dt, torch.float32) for dt in steps])

fig, ax = plt.subplots(figsize=(7, 3.6))
ax.loglog(steps, double, "o-", color=BLUE, markersize=3.5, label="double precision")
ax.loglog(steps, single, "s-", color=RED, markersize=3.5, label="single precision")
ax.loglog(steps, steps, color=GREY, linewidth=1, label="slope 1")
ax.axvline(0.001, color=INK, linewidth=0.8, linestyle=":", label="the paper's dt")
ax.set_ylim(1e-11, 10)
label(ax, "step dt", "relative error of the velocity")

window = (steps > 1e-6) & (steps < 1e-3)
slope = np.polyfit(np.log(steps[window]), np.log(double[window]), 1)[0]
assert 0.9 < slope < 1.1, slope  # a one-sided difference is of first order
assert double.min() < 1e-7 and single.min() > 1e-6

# %% [markdown]
# Down the slope the error is proportional to dt. Further left the difference drowns in rounding, which grows like
# 1/dt; further right, single ReLUs switch on or off during the step. Single precision leaves a narrow valley
# between the two. So the workflow takes the exact tangent as its estimator and keeps the finite step for comparison
# with the paper.
#
# ## 5. Sensitivity, and what the output scale does
#
# The sensitivity `S = rms(df_{L-1}/dt) / loss decay` says how much the last hidden features move while the loss
# falls by one unit. By the formula it is `1/(cos θ · √m · |b|)`. The size of the readout's weights enters through
# `|b|` only: multiply them by ten and the angle stays where it is.

# %%
small, large = (
    measure_feature_speed(
        build(m, L, input_dim=d, readout_std=std, generator=torch.Generator().manual_seed(3)),
        lambda output, target: output.sum(),  # a linear loss: its gradient at the output does not depend on the scale
        (x, y),
    )
    for std in (1 / m, 10 / m)
)
assert torch.allclose(small.angle[:-1], large.angle[:-1], rtol=1e-9)
assert torch.allclose(small.feature_sensitivity[:-1], 10 * large.feature_sensitivity[:-1], rtol=1e-9)

# %% [markdown]
# So a scaling of the readout *chooses* the sensitivity. The paper compares three standard deviations for the MLP
# with one output:
#
# | scaling | readout | S at the last hidden layer |
# |---|---|---|
# | NTK | 1/√m | ~ √(L/m): the features of wide networks stand still |
# | MF+μP | 1/m | ~ √L: independent of the width, growing with depth |
# | FSC | √L/m | ~ 1: independent of both |
#
# The samples come from the exact-law sampler: it draws features, backward pass and velocity of a random network
# from their joint law in O(m) a layer, without building a weight matrix. We use medians, because under NTK the
# residual `|f_L - y|` may be close to 0 and S then has no mean.

# %%
m = 200
depths = np.array([5, 10, 20, 40, 80])
scalings = {
    "NTK": (lambda depth: 1 / math.sqrt(m), RED, lambda depth: np.sqrt(depth / m)),
    "MF+μP": (lambda depth: 1 / m, BLUE, np.sqrt),
    "FSC": (lambda depth: math.sqrt(depth) / m, GREEN, np.ones_like),
}
stream = torch.Generator().manual_seed(4)
fig, ax = plt.subplots(figsize=(7, 3.8))
for name, (readout_std, color, guide) in scalings.items():
    medians = []
    for depth in depths:
        network = Network(int(depth), branch_scale=1.0, readout_std=readout_std(depth), target=1.0)
        samples = sample_networks([network] * 400, m, stream)
        medians.append(float(torch.stack([one.feature_sensitivity[-1] for one in samples]).median()))
    ax.loglog(depths, medians, "o", color=color, label=name)
    law = guide(depths.astype(float))
    ax.loglog(depths, law * medians[-1] / law[-1], color=color, linewidth=1)
    excess = np.polyfit(np.log(depths[2:]), np.log(medians[2:] / law[2:]), 1)[0]
    assert abs(excess) < 0.2, (name, excess)  # from L = 20 on; the next best power of L would be off by 1/2
ax.set_xticks(depths, [str(depth) for depth in depths])
ax.minorticks_off()
label(
    ax,
    "depth L",
    "median sensitivity S",
    f"m = {m}; lines: the stated power of L",
    loc="center left",
    bbox_to_anchor=(1, 0.6),
)

# %% [markdown]
# ## 6. Is the sampler right?
#
# The same quantity twice: `cos θ` at the last hidden layer of 600 dense networks (m = 32, L = 10), and of 10 000
# samples that never saw a weight matrix. The Kolmogorov-Smirnov distance between the two must stay below its 1%
# level; and as a control, the same test must reject samples of networks that are only half as wide.

# %%


def dense_cosine(seed):
    """One dense ReLU MLP with m = 32, L = 10."""
    network = draw_dense_network(32, 10, d, torch.Generator().manual_seed(seed), dtype=torch.float64)
    probe = SeriesProbe(network, x[0], y[0], branch_scales=[1.0], readout_stds=[1.0])
    return float(probe.exact_tangent().angle[-1].cos())


def sampled_cosines(width, seed):
    """10 000 exact samples at depth 10."""
    samples = sample_networks([Network(10, branch_scale=1.0)] * 10_000, width, torch.Generator().manual_seed(seed))
    return torch.stack([one.angle[-1] for one in samples]).cos().numpy()


def distance(first, second):
    """Kolmogorov-Smirnov: the largest gap between the two distribution functions."""
    points = np.sort(np.concatenate([first, second]))
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (first, second)]
    return np.abs(below[0] - below[1]).max()


dense = np.array([dense_cosine(seed) for seed in range(600)])
sampled, half_as_wide = sampled_cosines(32, seed=5), sampled_cosines(16, seed=6)
level = 1.63 * math.sqrt(1 / len(dense) + 1 / len(sampled))  # 1% level
print(f"distance {distance(dense, sampled):.3f}, control {distance(dense, half_as_wide):.3f}, 1% level {level:.3f}")
assert distance(dense, sampled) < level < distance(dense, half_as_wide)

fig, ax = plt.subplots(figsize=(7, 3.4))
bins = np.linspace(0.1, 0.9, 41)
ax.hist(sampled, bins, density=True, color="#c9d7e8", label="10 000 exact samples")
ax.hist(dense, bins[::2], density=True, histtype="step", color=INK, label="600 dense networks")
ax.hist(half_as_wide, bins, density=True, histtype="step", color=RED, linestyle=":", label="control: m = 16")
label(ax, "cos θ at the last hidden layer", "density")

# %% [markdown]
# ## 7. The limit of infinite width and depth
#
# At `β = c/√L` the output angle has a limit φ(c) that depends on c alone. For ReLU it is a one-dimensional
# integral, for the linear network `1/cos² φ = 1 + 2c²/3`. Both were derived for this project; the paper shows φ by
# simulation. Dots: exact samples at m = 1000, L = 200.

# %%
depth, width = 200, 1000
c_grid = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
fine = np.logspace(-1.3, 1.3, 60)
fig, ax = plt.subplots(figsize=(7, 3.8))
for activation, color in [("relu", BLUE), ("linear", RED)]:
    networks = [Network(depth, branch_scale=c / math.sqrt(depth)) for c in c_grid for _ in range(4)]
    samples = sample_networks(networks, width, torch.Generator().manual_seed(7), activation=activation)
    phi = torch.stack([one.angle[-1] for one in samples]).reshape(len(c_grid), -1)
    ax.semilogx(fine, phi_limit(fine, activation), color=color, linewidth=1, label=f"{activation}: φ(c)")
    ax.semilogx(c_grid, phi.numpy(), "o", color=color, markersize=4, alpha=0.6, markeredgewidth=0)
    assert np.abs(phi.mean(1).numpy() - phi_limit(c_grid, activation)).max() < 0.05, activation
angle_axis(ax)
label(ax, "c = √L β", "output angle [rad]")

# %% [markdown]
# ## 8. Your own network
#
# Any `nn.Sequential` will do. Its entries are the layers; a feature is what passes from one entry to the next, for
# the whole batch at once. Here is a small convolutional network for 8 random images, with a residual block and a
# cross-entropy loss.

# %%


class ResidualConv(nn.Module):
    """f -> f + conv(relu(f))."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, f):
        return f + self.conv(torch.relu(f))


torch.manual_seed(8)
convnet = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1),
    ResidualConv(16),
    ResidualConv(16),
    nn.Conv2d(16, 32, 3, stride=2, padding=1),
    nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    nn.Linear(32, 10),
)
images, classes = torch.randn(8, 3, 16, 16), torch.randint(10, (8,))
result = measure_feature_speed(convnet, nn.CrossEntropyLoss(), (images, classes))
assert result.formula_error.max() < 1e-12

names = ["conv", "residual", "residual", "conv, stride 2", "relu, pool", "linear"]
pd.DataFrame(
    {
        "entries of f": result.size.long(),
        "rms(f)": result.feature_rms,
        "θ [rad]": result.angle,
        "speed": result.feature_speed,
        "|b|": result.backward_norm,
        "loss decay": result.loss_decay,
        "error of the formula": result.formula_error,
    },
    index=pd.Index(names, name="layer"),
).style.format("{:.3g}")

# %%
fig, ax = plt.subplots(figsize=(7, 3.2))
ax.plot(range(1, 7), result.angle, "o-", color=BLUE)
ax.set_xticks(range(1, 7), [f"{v} {name}".replace(", ", ",\n") for v, name in enumerate(names, start=1)], fontsize=8.5)
ax.set(ylabel="angle θ [rad]", ylim=(0, None))
angle_axis(ax)

# %% [markdown]
# **A trap.** The formula holds at *cut nodes*: features through which all of the signal passes. The output of a
# residual block is one; what the branch *inside* the block computes is not, because the skip connection leads
# around it. Take the branches `z_v = β W_v relu(f_{v-1})` of section 1; their backward pass is `b_v`, because `f_v
# = a f_{v-1} + z_v`. There the identity fails:

# %%
inside = [f_dot[v - 1] - a * f_dot[v - 2] for v in range(2, 12)]  # velocities of z_2, ..., z_11
product = torch.stack([-(z_dot * b[v - 1]).sum() for v, z_dot in enumerate(inside, start=2)])  # speed · cos θ · |b|
ratio = product / decay[1:11]
print("inside the branch, product over loss decay:", *(f"{r:.2f}" for r in ratio))
assert abs(ratio[0] - 1) < 1e-12  # f_1 is fixed: nothing flows around the first branch
assert ratio[1:].max() < 0.6

# %% [markdown]
# `docs/measure_your_network.md` says more about the fields, about blocks that need a wrapper and about what else
# can go wrong. The figures of the paper, at its own widths and depths, are on the page `index.html` one folder up.
