"""Claims of the papers: criteria fixed before a run, statistics of stage tables, one rule for every verdict."""
