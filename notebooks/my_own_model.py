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
# # I train a GPT with AdamW. Does my learning rate transfer?
#
# Learning rates are tuned on small models, because runs of large ones are dear. That helps only if the best rate of
# the small model is also the best one of the large model. Whether it is depends on how you initialise, scale and
# optimise, and it can be measured: train a few widths at a few learning rates with a few seeds, and see whether the
# best rate moves.
#
# The GPT below is plain PyTorch and knows nothing of this package. Everything runs on two cores in about a minute, so
# networks are small and training is short: the answers hold for what is trained here. Put in your own model, your
# data and your number of steps.

# %%
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from featurespeed import autoscale, coordinate_check, measure, transfer_check

plt.rcParams["figure.dpi"] = 110

# %% tags=["parameters"]
widths = [12, 24, 48, 96]
rates = [2.0**k for k in range(-10, -3)]  # of the model as it is
mup_rates = [2.0**k for k in range(-8, -2)]  # of the same model in muP
seeds, steps, looks = [10, 11, 12, 13, 14], 80, 4  # looks: at the sharpness, along training

# %% tags=["quick"]
widths, seeds, steps, looks = [12, 24, 48], [10, 11], 6, 1  # only to see that all cells run

# %% [markdown]
# ## The model and the text
#
# The text is the one behind Python's `help()`, character by character: it comes with Python.

# %%
text = "".join(topics[name] for name in sorted(topics))
alphabet = sorted(set(text))
codes = torch.tensor([alphabet.index(character) for character in text])

length = 32
count = (len(codes) - 1) // length
inputs = codes[: count * length].view(count, length)
targets = codes[1 : count * length + 1].view(count, length)  # the next character
print(f"{len(text):,} characters, {len(alphabet)} different ones, {count:,} sequences of {length}")

# %%


class Block(nn.Module):
    """Causal self-attention and an MLP, each with a skip connection; heads of 12 entries."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        heads = self.qkv(self.norm1(x)).unflatten(-1, (3, -1, 12)).transpose(1, 3)  # [batch, heads, 3, length, 12]
        mixed = functional.scaled_dot_product_attention(*heads.unbind(2), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Logits of the next character."""

    def __init__(self, width):
        super().__init__()
        self.token, self.position = nn.Embedding(len(alphabet), width), nn.Embedding(length, width)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, len(alphabet), bias=False)

    def forward(self, tokens):
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
        return self.readout(self.norm(self.blocks(x)))


def cross_entropy(logits, targets):
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


# %% [markdown]
# ## As it is
#
# PyTorch's initialisation, one learning rate for all weights. `transfer_check` trains all widths, rates and seeds;
# runs of a seed see the same batches. The grids of rates were centred by runs with other seeds, and then fixed.

# %%
as_it_is = transfer_check(
    GPT,
    widths,
    rates,
    cross_entropy,
    (inputs, targets),
    torch.optim.AdamW,
    steps,
    seeds,
    batch_size=4,
    sharpness_at=looks,
    progress=False,
)
print(as_it_is)
as_it_is.plot()

# %% [markdown]
# A shift of -1 octave is half the learning rate, and brackets hold 95% intervals over the seeds. The verdict asks
# whether the best rate moves by more than one octave while the width grows by a factor 8. Here it moves by about three:
# it falls like 1/width. What would it cost to train the wide model at the best rate of the narrow one?

# %%


def cost(check):
    """Loss of the widest model at the best rate of the narrowest, less its own least loss."""
    found = check.excess_loss
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


print(f"loss of width {widths[-1]} at the best rate of width {widths[0]}, above its own least loss: {cost(as_it_is)}")

# %% [markdown]
# ## With muP
#
# The maximal update parameterization ([arXiv:2203.03466](https://arxiv.org/abs/2203.03466)) says how initial weights
# and learning rates should depend on the width. `autoscale` applies it to any model: it compares the model with one
# of the width on which you tune, rescales the weights in place, and hands out parameter groups for your optimizer.
# The training loop stays as it is.

# %%
few = inputs[:2], targets[:2]


def make_model(width):
    model = GPT(width)
    model.scaling = autoscale(model, cross_entropy, few, "mup", base=GPT(widths[0]))
    return model


def make_optimizer(model, learning_rate):
    return torch.optim.AdamW(model.scaling.groups(learning_rate, kind="adam"))


torch.manual_seed(0)
factors = make_model(widths[-1]).scaling.table.set_index("name")[["role", "factor", "lr_adam"]]
shown = ["token.weight", "blocks.0.qkv.weight", "blocks.0.mlp.0.weight", "blocks.0.norm1.weight", "readout.weight"]
factors.loc[shown].style.format(precision=3).set_caption(f"width {widths[-1]} against width {widths[0]}")

# %% [markdown]
# `factor` is what the initial weights are multiplied with, `lr_adam` the learning rate in units of yours. The rates of
# hidden matrices and of the readout fall like 1/width, and the readout starts smaller; hidden matrices have the right
# size already (their factors are 1 up to chance). Attention needs nothing more here: heads keep their size, and their
# number grows.

# %%
with_mup = transfer_check(
    make_model,
    widths,
    mup_rates,
    cross_entropy,
    (inputs, targets),
    make_optimizer,
    steps,
    seeds,
    batch_size=4,
    sharpness_at=looks,
    progress=False,
)
print(with_mup)
print(f"loss of width {widths[-1]} at the best rate of width {widths[0]}, above its own least loss: {cost(with_mup)}")
with_mup.plot()

# %% [markdown]
# Now the best rate stays where it is, and that of the narrow model costs the wide one next to nothing.
#
# The left panels show, for one seed, the largest eigenvalue of the Hessian in the units of AdamW, over the value at
# which AdamW gets unstable; the dashed line is the edge of stability. The first point is after one step, when Adam
# divides by the size of a single gradient, and is large for all. Later most points lie below the line: in these few
# steps training is not held at the edge, which so does not say where the best rate lies. What does?
#
# ## Why: how far a step moves the features
#
# A coordinate check trains a few steps at every width and asks how far the output of each layer has moved. If that
# grows with the width, a rate that is right for the narrow model is too large for the wide one. First the model as it
# is, then with muP, each at the rate that was best for all widths together.

# %%
batches = [(inputs[k : k + 4], targets[k : k + 4]) for k in range(0, 40, 4)]
moved = coordinate_check(
    GPT, widths, cross_entropy, batches, torch.optim.AdamW, seeds=seeds, learning_rate=as_it_is.common_rate
)
print(moved.sentence)
moved.plot()

# %%
moved = coordinate_check(
    make_model, widths, cross_entropy, batches, make_optimizer, seeds=seeds, learning_rate=with_mup.common_rate
)
print(moved.sentence)
moved.plot()

# %% [markdown]
# As it is, most layers move further the wider the network is. With muP all updates keep their size: this is what muP is
# made for, and why the learning rate transfers.
#
# `measure` looks at one step of your optimizer in more detail: at each cut node of the network, how fast the feature
# moves, at which angle to its backward pass, and what the weights of that node add to the fall of the loss. Here is the
# root mean square by which the first step of AdamW moves the features of the narrowest and of the widest model.

# %%


def first_step(make, optimizer, width, rate):
    """Root mean square of the velocity of features, per step of a new AdamW."""
    torch.manual_seed(0)
    model = make(width)
    adamw = torch.optim.AdamW(model.parameters(), lr=rate) if optimizer is None else optimizer(model, rate)
    table = measure(model, cross_entropy, batches[0], optimizer=adamw).table.set_index("node")
    assert (table["cosine_error"] < 1e-3).all()  # speed · cos θ · |b| is the loss decay, in single precision
    return table["feature_speed"] / table["size"] ** 0.5


speeds = {
    (name, f"width {width}"): first_step(make, optimizer, width, rates[0])
    for name, make, optimizer in [("as it is", GPT, None), ("muP", make_model, make_optimizer)]
    for width in (widths[0], widths[-1])
}
pd.DataFrame(speeds).style.format("{:.4f}").set_caption(f"rms of features moved by one step at rate {rates[0]:.3g}")

# %% [markdown]
# Matrices between hidden layers make the difference: one step of Adam moves each of their entries by the learning rate,
# whatever the width, and a unit of the wide network adds up more of them. (With muP the wide readout moves less in its
# first step, because it starts smaller; the coordinate check shows that ten steps later it has caught up.)
#
# **Your own model.** Replace `GPT`, the text and the loss, and train as many steps as you can pay for: short runs like
# these prefer larger rates than long ones. `docs/own_model.md` has the arguments, what is refused, checks that go on
# after a kill, and the same as jobs on a GPU or a cluster.
