"""What is learned, from which batches: students' forward passes with their losses, and what their teachers give them.

An objective for image-text pairs, which `tcl pretrain --objective NAME` and retrieval can learn with, is a file here
that declares OBJECTIVE, a `tcl.objectives.pair_objective.PairObjective`.
"""
