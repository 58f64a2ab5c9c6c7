"""Figures 1, 24 and 26: sharpness and learning-rate transfer over the width.

Settings: blocks sc_fig01, sc_fig24, sc_fig26 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig01
"""
