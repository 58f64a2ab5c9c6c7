"""Taylor coefficients of the minibatch loss (ours, after the abstract).

Settings: block beos_fig6 of ``config.yaml``. To make it:

    snakemake --cores all beos_fig6
"""
