"""The second paper's ConvNets under scaled descent (ours).

Settings: block beos_bridge of ``config.yaml``. To make it:

    snakemake --cores all beos_bridge
"""
