"""The ledger of claims: criteria fixed before a run, estimates with their evidence, one rule for every verdict.

Knows no paper.
"""
