"""The feature speed formula along training. Draws nothing: it feeds the claims.

Settings: block fsf_training of ``config.yaml``. To make it:

    snakemake --cores all results/laptop/stages/fsf_training.parquet
"""
