"""Section 5, Figures 5 and 10: the two-layer linear network.

Settings: blocks sc_theory, sc_fig05, sc_fig10 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_theory
"""
