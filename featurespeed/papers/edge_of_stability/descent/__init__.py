"""Descent with scaled gradients beyond the edge of stability (ours, after the abstracts).

Settings: blocks beos_fig1 to beos_fig5, beos_table1 of ``config.yaml``. To make one of them:

    snakemake --cores all beos_fig1
"""
