"""Everything between files and tensors: metadata, sensors, rasters, the image processor, data and scene inference.

Installed as `stsun_processing`. Names are imported on first use, so that what needs no rasterio works without it.
"""
