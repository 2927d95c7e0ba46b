"""From a series to maps: checkpoints, tiles, the journal of unfinished work, and files that GIS tools open.

May import `rasters`, the image processor, `metadata` and the model.
"""
