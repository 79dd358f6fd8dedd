"""What an hour of GPUs costs and what of it a token costs: prices as data, the arithmetic pure. Knows no network and no file.

The package is `costs` because `vram.cost` is the function that users call.
"""
