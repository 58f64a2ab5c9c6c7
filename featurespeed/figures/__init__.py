"""Tabulation and drawing of each paper's figures and tables: one module a paper and task."""
