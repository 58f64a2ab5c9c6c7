"""L. Noci et al., *Super Consistency of Neural Network Landscapes and Learning Rate Transfer* (arXiv:2402.17457)."""
