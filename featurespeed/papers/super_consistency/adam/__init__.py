"""Figures 20 and 21: ConvNets with Adam, residual ones over the depth, others over the width.

Settings: blocks sc_fig20, sc_fig21 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig20
"""
