"""Figure 2: output sensitivity against depth.

Settings: blocks fsf_fig2a, fsf_fig2b of ``config.yaml``. To make one of them:

    snakemake --cores all fsf_fig2a
"""
