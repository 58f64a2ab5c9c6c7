"""Specs: what each stage needs to know, as frozen typed models that refuse unknown keys and impossible values.

A stage script imports its spec from the module of its paper and knows nothing of the configuration around it, so that a
new figure elsewhere changes no stage's code.
"""
