"""Figures 4c, 15 and 16, and CompleteP (ours): transformers with Adam, over their depth and over their width.

Settings: blocks sc_fig04c, sc_fig15, sc_fig16, sc_completep of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig04c
"""
