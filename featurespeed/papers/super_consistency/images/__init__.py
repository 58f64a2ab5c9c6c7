"""Figures 17, 18 and 19: residual ConvNets on Tiny-ImageNet over width and depth, and on ImageNet over the width.

Settings: blocks sc_fig17, sc_fig18, sc_fig19 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig17
"""
