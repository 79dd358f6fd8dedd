"""How fast a plan runs: rooflines on the bytes and operations that the model really has, calibrated on measured rows."""
