"""Figures 20 and 21: ConvNets with Adam. Not computed here yet.

Its claims are listed in the ledger as not run.
"""
