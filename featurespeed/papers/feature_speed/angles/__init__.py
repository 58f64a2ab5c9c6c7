"""Figure 1: backward-feature angles at initialisation.

Settings: blocks fsf_fig1a, fsf_fig1b, fsf_fig1c of ``config.yaml``. To make one of them:

    snakemake --cores all fsf_fig1a
"""
