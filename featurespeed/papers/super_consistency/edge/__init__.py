"""Figures 9, 11 and 27: the edge of stability, and curvature along training.

Settings: blocks sc_fig09, sc_fig11, sc_fig27 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig09
"""
