"""Tables 1 and 2: measured exponents of the scalings.

Settings: blocks fsf_table1, fsf_table2 of ``config.yaml``. To make one of them:

    snakemake --cores all fsf_table1
"""
