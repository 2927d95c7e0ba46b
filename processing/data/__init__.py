"""Labelled series for training: the folder format, its reader and inspection, converters, augmentation and batches.

May import `rasters`, the image processor and `metadata`.
"""
