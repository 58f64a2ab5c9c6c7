"""Figures 4, 22 and 25: residual ConvNets under Depth-muP over the depth, with one and with two layers a block.

Settings: blocks sc_fig04, sc_fig22, sc_fig25 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig04
"""
