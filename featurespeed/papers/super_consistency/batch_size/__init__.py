"""Figures 12, 13 and 14: the fall of the sharpness late in training, and the batch size, with and without augmentation.

Settings: blocks sc_fig12, sc_fig13, sc_fig14 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig12
"""
