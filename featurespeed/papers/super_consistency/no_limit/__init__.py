"""Figures 6, 7 and 8: networks without a limit of infinite depth or width: muP without 1/sqrt(L), SP, no skips.

Settings: blocks sc_fig06, sc_fig07, sc_fig08 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig06
"""
