"""What several rooms say of their figures in the same words: how to read them, and what the paper does not tell."""

from featurespeed.papers.entries import Setting

#: Losses over learning rates; ``size`` is width or depth, ``span`` the ratio over which shifts are stated.
TRANSFER = (
    "training loss over the last tenth of the steps against the base learning rate; diamonds mark the best one of "
    "every {size}, crosses rates at which a seed diverged, died or ended at chance, and the number is the shift of the "
    "best rate over a factor {span} in the {size}, in steps of a factor 2."
)
#: Sharpness along training with gradient descent; ``symbol`` is that of the size.
SHARPNESS = (
    "sharpness along training at the best rate of those where it was measured, with 2/η₀ (dotted); the numbers are the "
    "exponents in {symbol} of its mean over the second half of training, there and at the next smaller rate. Seeds of "
    "which a network failed at that rate are left out of it, up to a fifth of those of a {size}."
)
#: Sharpness along training with Adam; ``symbol`` is that of the size.
PRECONDITIONED = (
    "the largest eigenvalue of the preconditioned Hessian along training, at the best rate of those where it was "
    "measured. The learning rate is in it, so that Adam's threshold (dotted; 38 for β₁ = 0.9) is the same at every "
    "rate; the numbers are the exponents in {symbol} of its mean over the second half of training, there and at the "
    "next smaller rate. Seeds of which a network failed at that rate are left out of it, up to a fifth of those of a "
    "{size}."
)
#: What is measured when, and over how many seeds.
ALONG_TRAINING = (
    Setting("Measured after steps", "not given", "spec:probe_steps"),
    Setting("Seeds", "not given", "spec:seeds"),
    Setting("Bands and intervals", "not given", "text:bands: range over seeds; numbers: 95%, t over seeds"),
)
