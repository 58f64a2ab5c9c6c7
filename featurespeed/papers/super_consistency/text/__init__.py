"""Figures 15 and 16: transformers on text. Not computed here yet.

Its claims are listed in the ledger as not run.
"""
