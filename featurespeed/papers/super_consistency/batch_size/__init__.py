"""Figures 12, 13 and 14: late training, and the batch size. Not computed here yet.

Its claims are listed in the ledger as not run.
"""
