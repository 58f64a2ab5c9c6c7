"""The theorems, tested directly in float64. Draws nothing: it feeds the claims.

Settings: block fsf_theorems of ``config.yaml``. To make it:

    snakemake --cores all results/laptop/stages/fsf_theorems.parquet
"""
