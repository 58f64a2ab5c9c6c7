"""Drawing: artefact tables from stage tables, figures from artefact tables. Knows no paper."""
