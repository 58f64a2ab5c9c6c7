"""From a configuration to files: the registry of all artefacts, settings, provenance, stages, costs and the page."""
