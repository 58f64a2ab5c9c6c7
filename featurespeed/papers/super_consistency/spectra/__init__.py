"""Figures 2, 3 and 23: eigenvalues and distances to infinite width along training.

Settings: blocks sc_fig02, sc_fig03, sc_fig23 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig02
"""
