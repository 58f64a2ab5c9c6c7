"""Figures 6, 7 and 8: parameterizations without a valid limit. Not computed here yet.

Its claims are listed in the ledger as not run.
"""
