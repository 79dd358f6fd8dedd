"""Choosing: what was asked, what rows of a table are worth, and the choices that come of it. Arrays are ranked, only what is shown becomes values."""
