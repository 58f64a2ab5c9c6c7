"""Figure 28 and Table 1: the coordinate check, and exponents of the parameterizations.

Settings: blocks sc_fig28, sc_table1 of ``config.yaml``. To make one of them:

    snakemake --cores all sc_fig28
"""
