"""The infinite-width theory of the angle (ours), beside exact samples.

Settings: block fsf_theory of ``config.yaml``. To make it:

    snakemake --cores all fsf_theory
"""
