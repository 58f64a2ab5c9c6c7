"""App. J.1: how curvature is measured, and checks of the measurement along training.

Settings: blocks sc_sharpness_methods, sc_sharpness of ``config.yaml``. To make one of them:

    snakemake --cores all sc_sharpness_methods
"""
