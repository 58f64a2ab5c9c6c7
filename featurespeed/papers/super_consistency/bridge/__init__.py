"""Feature speed of the first paper beside sharpness and transfer of the second (ours).

Settings: block sc_bridge of ``config.yaml``. To make it:

    snakemake --cores all sc_bridge
"""
