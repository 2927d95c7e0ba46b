"""Fine-tuning: arguments, sources, the optimiser, evaluation, and what a run leaves behind.

May import everything but the command line.
"""
