"""How good a bundle is: figures, reports, thresholds. No torch."""
