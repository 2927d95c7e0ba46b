"""A synthetic world with exact labels, seen by any sensor on any dates.

May import `data`, `scenes`, `rasters` and `metadata`; needs no rasterio.
"""
