"""From files to series: what rasters state, what the statements mean together, and the pixels in physical units.

May import `stsun_processing.metadata`, rasterio and xarray; no other part of the package.
"""
