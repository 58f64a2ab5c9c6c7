"""Figures 4, 22 and 25: depth under Depth-muP. Not computed here yet.

Its claims are listed in the ledger as not run.
"""
