"""Small settings of the stages of the two-layer linear network."""

RUNS = {
    "artefact": "sc_fig05", "input_dim": 4, "samples": 12, "noise": 0.5, "widths": [8, 16],
    "learning_rates": {"MUP": 0.3, "NTP": 1.0}, "probe_steps": [0, 2, 40], "seeds": 2, "seed": 1,
}  # fmt: skip
TOY = {
    "artefact": "sc_fig10", "input_dim": 6, "widths": [8, 64], "learning_rates": {"MUP": [0.5, 1.1], "NTP": [1, 500]},
    "shown": {"MUP": [0.5], "NTP": [1]}, "shown_steps": 10, "probes": 3, "steps": 200, "tolerance": 1e-6, "seeds": 2,
    "seed": 1,
}  # fmt: skip
THEORY = {
    "artefact": "sc_theory", "seeds": 2, "seed": 1,
    "laws": {"widths": [4, 8], "input_dims": [3], "gammas": [1], "edge_share": 0.5, "steps": 6, "dense_widths": [3, 4]},
    "edge": {"input_dim": 4, "widths": [8, 16], "shares": 6, "lowest": 0.7, "highest": 1.1, "steps": 300,
             "tolerance": 1e-6},
    "initialisation": {"input_dim": 3, "widths": [8, 16], "draws": 3},
    "limit": {"input_dim": 3, "widths": [8, 16], "learning_rate": 0.5, "steps": 5},
    "softmax": {"classes": 3, "margins": [0, 10]},
}  # fmt: skip
