"""Figures 17, 18 and 19: ResNets on Tiny-ImageNet and ImageNet. Not computed here yet.

Its claims are listed in the ledger as not run.
"""
