"""What each difference between our reading of the text and the authors' networks does, one choice at a time (ours).

Settings: block sc_conventions of ``config.yaml``. To make it:

    snakemake --cores all sc_conventions
"""
